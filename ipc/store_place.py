"""
Where a daemon's store is: what lies beside it and in run_dir says so.
"""

from __future__ import annotations

import os

import msgspec
from msgspec import Struct

from regrow.config.spec import Durability
from regrow.ipc.control import HOW_IN, owners
from regrow.ipc.errors import StoreUnusable

FOLDER = "state"
INFO = "store"
SIGNS = "signs"
"""
Beside the environment: bytes that all who have it open share, mapped. The first is 0 until something is committed,
which the keeper is then told of; the second changes when the store is to be opened anew, as after a restore.
"""

SIGNS_BYTES = 4096
MAP_BYTES = 1 << 30
"""How large the map is made at first: address space, not memory and not disk."""

MAX_READERS = 16_384

DATABASES = ("state", "messages", "meta")
KEEPER_BELL = "regrow.keeper.bell"


class StoreInfo(Struct, frozen=True):
    """What `<run_dir>/store` says, as soon as the store is fit for use: where it is, and what a commit survives."""

    path: str
    durability: Durability


def read_info(run_dir: str) -> StoreInfo:
    """
    Where the store of this daemon is.

    Raises:
        StoreUnusable: no daemon that has one runs there.
    """
    path = os.path.join(run_dir, INFO)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=StoreInfo)
    except FileNotFoundError:
        why = "no daemon runs there"
        if os.path.isdir(run_dir):
            why = "the daemon keeps none: its tree has no agents, or it is just starting"
        raise StoreUnusable(path, why, "see `regrow status`") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreUnusable(path, str(error), "see who may: [access] in its file") from None


def file_of(path: str) -> tuple[int, int]:
    """Which file the environment in this folder is. Raises StoreUnusable."""
    try:
        found = os.stat(os.path.join(path, "data.mdb"))
    except OSError as error:
        remedy = "see `regrow logs regrow.keeper`"
        if isinstance(error, PermissionError):
            remedy = f"only {owners(path)} and the operators in [access] of its file look into it; {HOW_IN}"
        raise StoreUnusable(path, error.strerror or str(error), remedy) from None
    return found.st_dev, found.st_ino
