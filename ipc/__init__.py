"""
What processes share: messages between them, the client of the control socket, and what both may come to.

Names are loaded when they are first used: who only looks at the control socket loads neither ZeroMQ nor LMDB.
"""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.ipc (the repository is on sys.path)")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from regrow.ipc.aio import AsyncClient as AsyncClient
    from regrow.ipc.client import Client as Client
    from regrow.ipc.commands_result import CommandResult as CommandResult
    from regrow.ipc.down import Down as Down
    from regrow.ipc.errors import Ambiguous as Ambiguous
    from regrow.ipc.errors import Backpressure as Backpressure
    from regrow.ipc.errors import BadRequest as BadRequest
    from regrow.ipc.errors import BadState as BadState
    from regrow.ipc.errors import CallingSelf as CallingSelf
    from regrow.ipc.errors import CallTimeout as CallTimeout
    from regrow.ipc.errors import ControlTimeout as ControlTimeout
    from regrow.ipc.errors import DeliveryTimeout as DeliveryTimeout
    from regrow.ipc.errors import MessageError as MessageError
    from regrow.ipc.errors import NoProcess as NoProcess
    from regrow.ipc.errors import NoProgram as NoProgram
    from regrow.ipc.errors import NoRun as NoRun
    from regrow.ipc.errors import ProcessDown as ProcessDown
    from regrow.ipc.errors import Refused as Refused
    from regrow.ipc.errors import RemoteError as RemoteError
    from regrow.ipc.errors import RunCancelled as RunCancelled
    from regrow.ipc.errors import RunFailed as RunFailed
    from regrow.ipc.errors import RunTimeout as RunTimeout
    from regrow.ipc.errors import StoreError as StoreError
    from regrow.ipc.errors import StoreFull as StoreFull
    from regrow.ipc.errors import StoreUnusable as StoreUnusable
    from regrow.ipc.errors import Unreachable as Unreachable
    from regrow.ipc.errors import WorkflowError as WorkflowError
    from regrow.ipc.groups import by_key as by_key
    from regrow.ipc.groups import least_outstanding as least_outstanding
    from regrow.ipc.groups import round_robin as round_robin
    from regrow.ipc.mailbox import Signal as Signal
    from regrow.ipc.monitor import Monitor as Monitor
    from regrow.ipc.task import Exit as Exit
    from regrow.ipc.task import Ok as Ok
    from regrow.ipc.task import Task as Task
    from regrow.ipc.tasks import TaskSupervisor as TaskSupervisor
    from regrow.ipc.verbs import Delivery as Delivery
    from regrow.ipc.verbs import Request as Request
    from regrow.ipc.verbs import Where as Where

_HOMES = {
    "aio": ("AsyncClient",),
    "client": ("Client",),
    "commands_result": ("CommandResult",),
    "down": ("Down",),
    "errors": (
        "Ambiguous",
        "Backpressure",
        "BadRequest",
        "BadState",
        "CallTimeout",
        "CallingSelf",
        "ControlTimeout",
        "DeliveryTimeout",
        "MessageError",
        "NoProcess",
        "NoProgram",
        "NoRun",
        "ProcessDown",
        "Refused",
        "RemoteError",
        "RunCancelled",
        "RunFailed",
        "RunTimeout",
        "StoreError",
        "StoreFull",
        "StoreUnusable",
        "Unreachable",
        "WorkflowError",
    ),
    "groups": ("by_key", "least_outstanding", "round_robin"),
    "mailbox": ("Signal",),
    "monitor": ("Monitor",),
    "task": ("Exit", "Ok", "Task"),
    "tasks": ("TaskSupervisor",),
    "verbs": ("Delivery", "Request", "Where"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_MODULES)  # noqa: PLE0605 - one table of what there is


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
