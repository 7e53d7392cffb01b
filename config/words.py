"""Values with words of their own: signals, shutdown, outputs, umask, limits."""

from __future__ import annotations

import re
import signal
from typing import Any

from regrow.config.errors import did_you_mean
from regrow.config.exits import SHUTDOWN
from regrow.config.spec import BRUTAL_KILL, WAIT_FOREVER, Output, OutputKind, Shutdown, ShutdownKind
from regrow.config.units import UnitError, whole_s
from regrow.config.values import BAD, At, Schema, Type, duration, shown

UNLIMITED = -1  # what setrlimit(2) calls RLIM_INFINITY, as Python spells it

_SIGNALS = {number.name: int(number) for number in signal.Signals}
_REAL_TIME = re.compile(r"SIGRTMIN\+(\d+)")
_NOT_STOPPING = {"SIGKILL": 'write shutdown = "brutal_kill"', "SIGSTOP": "a stopped process never ends"}


class SignalName:
    """A signal by its name, as its number."""

    def read(self, value: Any, at: At) -> Any:
        """Return the number."""
        if not isinstance(value, str):
            return at.wrong(f'must be the name of a signal such as "SIGTERM", not {shown(value)}')
        name = at.filled(value)
        if not isinstance(name, str):
            return name
        if name in _NOT_STOPPING:
            return at.wrong(f"{name} cannot be a stop signal", _NOT_STOPPING[name])
        real_time = _REAL_TIME.fullmatch(name)
        number = signal.SIGRTMIN + int(real_time[1][:4]) if real_time else _SIGNALS.get(name)
        if number is None or number > signal.SIGRTMAX:
            named = f"SIG{name.upper().removeprefix('SIG')}"
            hint = f"did you mean `{named}`?" if named in _SIGNALS else _near_signal(name)
            return at.wrong(f'must be the name of a signal such as "SIGTERM", not {shown(name)}', hint)
        return int(number)

    def schema(self) -> Schema:
        """Return the schema."""
        names = sorted(set(_SIGNALS) - set(_NOT_STOPPING))
        return {"anyOf": [{"enum": names}, {"type": "string", "pattern": r"^SIGRTMIN\+[0-9]+$"}]}


def _near_signal(name: str) -> str:
    near = did_you_mean(name.lower(), [known.lower() for known in _SIGNALS])
    return near.upper().replace("DID YOU MEAN", "did you mean")


class ShutdownWords:
    """A time, `brutal_kill` or `infinity`."""

    _time = duration(positive=False)

    def read(self, value: Any, at: At) -> Any:
        """Return the Shutdown."""
        if value == "brutal_kill":
            return BRUTAL_KILL
        if value == "infinity":
            return WAIT_FOREVER
        if isinstance(value, str) and value[:1].isalpha():
            hint = did_you_mean(value, ("brutal_kill", "infinity"))
            return at.wrong(f'must be a time such as "5s", "brutal_kill" or "infinity", not {shown(value)}', hint)
        seconds = self._time.read(value, at)
        return BAD if seconds is BAD else Shutdown(ShutdownKind.TIMEOUT, seconds)

    def schema(self) -> Schema:
        """Return the schema."""
        return {"anyOf": [{"enum": ["brutal_kill", "infinity"]}, self._time.schema()]}


class OutputWords:
    """Where a stream goes: a word, or a path, which is told by its slash."""

    def __init__(self, *words: OutputKind) -> None:
        self._words = words

    def read(self, value: Any, at: At) -> Any:
        """Return the Output; its path is as written, placeholders filled in."""
        if not isinstance(value, str):
            return at.wrong(f"must be {', '.join(self._words)} or a path, not {shown(value)}")
        text = at.filled(value)
        if not isinstance(text, str):
            return text
        if text in list(self._words):
            return Output(OutputKind(text))
        if "/" in text:
            return Output(OutputKind.PATH, text)
        hint = did_you_mean(text, self._words) or f'a path has a slash: "./{text}"'
        return at.wrong(f"must be {', '.join(self._words)} or a path, not {shown(text)}", hint)

    def schema(self) -> Schema:
        """Return the schema."""
        return {"anyOf": [{"enum": [str(word) for word in self._words]}, {"type": "string", "pattern": "/"}]}


class Octal:
    """Octal digits in a string: as a TOML number, 022 is no number and 22 is another mask."""

    def __init__(self, digits: str, example: str, schema: str) -> None:
        self._digits = digits
        self._example = example
        self._schema = schema

    def read(self, value: Any, at: At) -> Any:
        """Return the bits."""
        text = at.filled(value) if isinstance(value, str) else ""
        if not isinstance(text, str):
            return text
        if not re.fullmatch(self._digits, text, re.ASCII):
            return at.wrong(f'must be a string of octal digits such as "{self._example}", not {shown(value)}')
        return int(text, 8)

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "string", "pattern": self._schema}


UMASK = Octal(r"0?[0-7]{1,3}", "022", "^0?[0-7]{1,3}$")
MODE = Octal(r"0?[0-7]{3}", "0660", "^0?[0-7]{3}$|[{]")  # or a placeholder


class Limit:
    """A resource limit: a quantity, or `unlimited`; where `zero` is set, also the bare 0."""

    def __init__(self, quantity: Type, *, zero: bool = False) -> None:
        self._quantity = quantity
        self._zero = zero

    def read(self, value: Any, at: At) -> Any:
        """Return the limit as setrlimit(2) takes it."""
        if value == "unlimited":
            return UNLIMITED
        if self._zero and value == 0 and not isinstance(value, bool):
            return 0
        return self._quantity.read(value, at)

    def schema(self) -> Schema:
        """Return the schema."""
        zero: list[Schema] = [{"const": 0}] if self._zero else []
        return {"anyOf": [self._quantity.schema(), {"const": "unlimited"}, *zero]}


class WholeSeconds:
    """A time in whole seconds, which is all that RLIMIT_CPU knows."""

    _time = duration()

    def read(self, value: Any, at: At) -> Any:
        """Return the seconds."""
        seconds = self._time.read(value, at)
        if seconds is BAD:
            return BAD
        try:
            return whole_s(seconds, shown(value))
        except UnitError as error:
            return at.wrong(str(error), error.hint)

    def schema(self) -> Schema:
        """Return the schema."""
        return self._time.schema()


class ExitStatus:
    """An exit status that counts as normal."""

    def read(self, value: Any, at: At) -> Any:
        """Return the status."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
            return at.wrong(f"must be an exit status from 0 to 255, not {shown(value)}")
        if value == SHUTDOWN:
            said = f"the exit status {SHUTDOWN} says *shutdown* and cannot also be normal"
            return at.wrong(said, code="bad_combination")
        return value

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "integer", "minimum": 0, "maximum": 255, "not": {"const": SHUTDOWN}}


class Listen:
    """`tcp://HOST:PORT`. Returns (host, port), the host as written; `*` is every address of this host."""

    def read(self, value: Any, at: At) -> Any:
        """Return host and port."""
        text = at.filled(value) if isinstance(value, str) else ""
        if not isinstance(text, str):
            return text
        found = re.fullmatch(r"tcp://(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]/:]+)):([0-9]{1,5})", text)
        if not found or not 1 <= int(found[3]) <= 65535:
            return at.wrong(f'must be an endpoint such as "tcp://0.0.0.0:7300", not {shown(value)}')
        return ("0.0.0.0" if found[2] == "*" else found[1] or found[2], int(found[3]))

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "string", "pattern": "^tcp://|[{]"}  # or a placeholder
