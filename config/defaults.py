"""Where a daemon keeps its sockets, state and logs when the file does not say."""

from __future__ import annotations

import os
from collections.abc import Mapping


def default_dirs(name: str, uid: int, environ: Mapping[str, str]) -> dict[str, str]:
    """
    Return run_dir, state_dir and log_dir of a daemon of that name, for the user it runs as.

    Source: hier(7), file-hierarchy(7); the XDG base directory specification for XDG_RUNTIME_DIR.
    """
    if uid == 0:
        return {
            "run_dir": f"/run/regrow/{name}",
            "state_dir": f"/var/lib/regrow/{name}",
            "log_dir": f"/var/log/regrow/{name}",
        }
    home = f"{home_dir(uid, environ)}/.regrow/{name}"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    run_dir = f"{runtime}/regrow/{name}" if runtime.startswith("/") else f"{home}/run"
    return {"run_dir": run_dir, "state_dir": f"{home}/state", "log_dir": f"{home}/log"}


def home_dir(uid: int, environ: Mapping[str, str]) -> str:
    """Return the home of a user: $HOME where it is absolute, else the one of the passwd entry, else /."""
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return home.rstrip("/")
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir.rstrip("/")
    except KeyError:
        return os.sep
