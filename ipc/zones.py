"""
Time zones by name, and the one that this process is in.

Source: tzset(3) on $TZ; tzfile(5).
"""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

LOCAL_FILE = "/etc/localtime"


def local_name(tz: str | None) -> str:
    """
    The zone that $TZ means: its name, or "" for that of the machine, whichever it is at the time.

    Raises:
        ValueError: it is none with a name.
    """
    if tz is None:
        return ""
    name = tz.removeprefix(":")
    if not name:
        return "UTC"  # as tzset(3) has it
    if os.path.realpath(name) == os.path.realpath(LOCAL_FILE):
        return ""
    try:
        zone(name)
    except ValueError:
        raise ValueError(f"$TZ is {tz!r}, which is not the name of a time zone: say which with zone=") from None
    return name


def zone(name: str) -> tzinfo:
    """
    The zone of this name, such as `Europe/Berlin`; "": that of the machine as it is now.

    Raises:
        ValueError: it is not known here.
    """
    if name:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            text = f"no time zone {name!r:.60} is known here: one is such as 'Europe/Berlin' (package tzdata)"
            raise ValueError(text) from None
    try:
        found = os.stat(LOCAL_FILE)
    except OSError:
        return UTC
    return _local(found.st_dev, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=2)
def _local(_device: int, _inode: int, _changed: int) -> tzinfo:
    try:
        with open(LOCAL_FILE, "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
