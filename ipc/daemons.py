"""
Which daemon is meant: by place, by name, by environment, or the only one that runs.

A daemon runs when its control socket accepts a connection and answers `ping`; a socket left behind by a killed
root is passed over. Custom run_dirs are found by `--run-dir` or `$REGROW_RUN_DIR` only: nothing lists them.

Source: contract sections 1 (default places) and 2 (which daemon).
"""

from __future__ import annotations

import os

from regrow.ipc.control import SOCKET, ControlClient
from regrow.ipc.errors import Ambiguous, ControlError, ControlTimeout, Refused, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM_PLACE = "/run/regrow"
PING_S = 2.0
"""A daemon that answers later than this is not found by looking around; naming it still reaches it."""


def connect(
    *,
    run_dir: str | None = None,
    name: str | None = None,
    timeout_s: float = 5.0,
    environ: Mapping[str, str] = os.environ,
) -> ControlClient:
    """
    A connection to the daemon meant: `run_dir`, else `name`, else `$REGROW_RUN_DIR`, else the only one running.

    Raises:
        Unreachable: none there; Ambiguous: several run; ControlTimeout: the only one does not answer.
    """
    if run_dir is not None:
        return ControlClient(run_dir, timeout_s=timeout_s)
    if name is not None:
        return _named(name, timeout_s, environ)
    if place := environ.get("REGROW_RUN_DIR"):
        return ControlClient(place, timeout_s=timeout_s)
    return _only(timeout_s, environ)


def run_dirs(environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str]]:
    """(name, run_dir) wherever a daemon's socket lies in a default place: this user's first, then root's."""
    for place, below in _places(environ):
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        for name in names:
            folder = os.path.join(place, name, below) if below else os.path.join(place, name)
            # No exists(): in a folder that may not be entered it says no, where the answer is "not for you".
            if os.path.isdir(folder):
                yield name, folder


def running(environ: Mapping[str, str] = os.environ) -> list[ControlClient]:
    """A connection to each daemon that runs for this user, or for root and lets this user look."""
    clients, _ = _look_around(environ, PING_S)
    return clients


def _places(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Folders of daemons, and the sub-folder of each that is its run_dir."""
    places = []
    if os.geteuid() != 0:
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            places.append((os.path.join(runtime, "regrow"), ""))
        if home := environ.get("HOME"):
            places.append((os.path.join(home, ".regrow"), "run"))
    places.append((SYSTEM_PLACE, ""))
    return places


def _named(name: str, timeout_s: float, environ: Mapping[str, str]) -> ControlClient:
    label = f"the daemon {name!r}"
    denied: Unreachable | None = None
    for found, folder in run_dirs(environ):
        if found != name:
            continue
        try:
            return ControlClient(folder, timeout_s=timeout_s, label=label)
        except Unreachable as error:
            denied = denied or error
    if denied is not None:
        raise denied
    place, below = _places(environ)[0]
    raise Unreachable(
        f"cannot reach {label}",
        f"nothing listens at {os.path.join(place, name, below, SOCKET)}",
        "start it with `regrow up FILE`, or say --run-dir DIR if its file sets another run_dir",
        absent=True,
    )


def _only(timeout_s: float, environ: Mapping[str, str]) -> ControlClient:
    clients, failures = _look_around(environ, min(timeout_s, PING_S))
    if len(clients) > 1:
        for client in clients:
            client.close()
        listed = ", ".join(f"{client.label} at {client.run_dir}" for client in clients)
        raise Ambiguous(listed.replace("the daemon ", ""), [client.run_dir for client in clients])
    if clients:
        clients[0].timeout_s = timeout_s
        return clients[0]
    if failures:
        raise failures[0]
    looked = ", ".join(place for place, _ in _places(environ))
    raise Unreachable(
        "cannot reach a daemon",
        f"none runs for this user (looked in {looked})",
        "start one with `regrow up FILE`, or say --run-dir DIR",
        absent=True,
    )


def _look_around(environ: Mapping[str, str], ping_s: float) -> tuple[list[ControlClient], list[ControlError]]:
    """Those that answer, and why others that seem to be there do not."""
    clients: list[ControlClient] = []
    failures: list[ControlError] = []
    for name, folder in run_dirs(environ):
        try:
            client = ControlClient(folder, timeout_s=ping_s, label=f"the daemon {name!r}")
        except Unreachable as error:
            if not error.absent:
                failures.append(error)
            continue
        try:
            client.request("ping")
        except (Refused, ControlTimeout, Unreachable) as error:
            client.close()
            failures.append(error)
        else:
            clients.append(client)
    return clients, failures
