"""
Who was probably meant, where the tree has nobody of that name.

Light, because the fast path of `regrow status` goes through it too. The daemon itself does not look: it has others to
answer.
"""

from __future__ import annotations

from regrow.ipc.errors import ControlError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from regrow.ipc.control import ControlClient

SUFFIX = " in this tree"


class Reached:
    """A connection for the length of a block; who leaves it because of a name that is not there is told the nearest."""

    def __init__(self, client: ControlClient) -> None:
        self.client = client

    def __enter__(self) -> ControlClient:
        return self.client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, Refused) and error.code == "not_found" and error.message.endswith(SUFFIX):
                name = error.message.removesuffix(SUFFIX).rpartition(" ")[2]
                if meant := _nearest(self.client, name):
                    raise Refused(error.code, f"{error.message}; did you mean {meant}?", error.details) from error
        finally:
            self.client.close()


def _nearest(client: ControlClient, name: str) -> str | None:
    from regrow.config.errors import nearest

    try:
        entries = client.request("status", all=name.startswith("regrow"))
    except (ControlError, OSError):
        return None
    names = {entry["name"] for entry in entries}
    return nearest(name[:100], sorted({*names, *(one.partition(".")[0] for one in names if one[:6] != "regrow")}))
