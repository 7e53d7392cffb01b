"""
Access control lists of files: named users and groups beside the owner, as the kernel stores them.

Source: acl(5), setxattr(2), include/uapi/linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

ATTRIBUTE = "system.posix_acl_access"

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF


def permit(path: str, owner: int, users: Mapping[int, int], groups: Mapping[int, int]) -> None:
    """
    Permit `owner` to the file's owner, what the tables say to these users and groups, and nothing to anybody else.

    What is permitted are bits of 7, as of a mode; the bits of the mode above 0o777 stay as they are.

    Raises:
        OSError: `EOPNOTSUPP` where the file system has no lists.
    """
    mask = 0
    for bits in (*users.values(), *groups.values()):
        mask |= bits
    entries = [
        (_USER_OBJ, owner, _NOBODY),
        *((_USER, bits, uid) for uid, bits in sorted(users.items())),
        (_GROUP_OBJ, 0, _NOBODY),
        *((_GROUP, bits, gid) for gid, bits in sorted(groups.items())),
        (_MASK, mask, _NOBODY),
        (_OTHER, 0, _NOBODY),
    ]
    os.setxattr(path, ATTRIBUTE, _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries))
