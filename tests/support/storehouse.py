"""A store without a keeper, for tests of what uses it."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import msgspec

from regrow.config.spec import Durability
from regrow.ipc.posting import AGENTS
from regrow.ipc.store import DATABASES, FOLDER, INFO, MAP_BYTES, SIGNS, SIGNS_BYTES, StoreInfo


def make_store(
    run_dir: Path,
    state_dir: Path,
    durability: Durability = Durability.PROCESS,
    map_bytes: int = MAP_BYTES,
    **agents: int,
) -> str:
    """Make an empty one, known to whoever looks into `run_dir`; returns its folder. `agents`: names, and replicas."""
    folder = state_dir / FOLDER
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=map_bytes, max_dbs=len(DATABASES)) as env:
        databases = {name: env.open_db(name.encode()) for name in DATABASES}
        with env.begin(write=True) as txn:
            txn.put(AGENTS, msgspec.msgpack.encode(agents), db=databases["meta"])
    (folder / SIGNS).write_bytes(bytes(SIGNS_BYTES))
    (run_dir / INFO).write_bytes(msgspec.json.encode(StoreInfo(str(folder), durability)))
    return os.fspath(folder)
