"""
Explanations: the chain of causes behind the present state of one child, in words.

Pure: a function of what the event log kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

STACKS = "its Python stacks:"
"""What comes before the stacks of a worker that hung."""

Event = Mapping[str, Any]

MAX_CHAIN = 32


def chain_of(latest: Event | None, get: Callable[[int | None], Event | None]) -> list[Event]:
    """The events that led to `latest`, oldest first, itself last."""
    chain: list[Event] = []
    event = latest
    while event is not None and len(chain) < MAX_CHAIN:
        chain.append(event)
        event = get(event["cause"])
    chain.reverse()
    return chain


def explain(entry: Mapping[str, Any], chain: list[Event]) -> list[str]:
    """Sentences, the present state first, then what led to it, newest first, then what it said last."""
    lines = [_now(entry)]
    told = [sentence(event) for event in reversed(chain)]
    lines += [f"  {'because ' if number else ''}{line}" for number, line in enumerate(line for line in told if line)]
    if entry["last_exit"] is not None and entry["last_exit"]["text"]:
        lines.append(f"last exit ({words(entry['last_exit'])}) left:")
        lines += [f"  {line}" for line in entry["last_exit"]["text"].splitlines()]
    return lines


def explain_left(name: str, chain: list[Event], last: Event | None) -> list[str]:
    """The same of a child that is no longer in the tree; `last` is the newest event with an exit of it."""
    lines = [f"{name} is no longer in this tree"]
    told = [sentence(event) for event in reversed(chain) if event["event"] != "child_deleted"]
    lines += [f"  {'because ' if number else ''}{line}" for number, line in enumerate(line for line in told if line)]
    reason = last["reason"] if last is not None else None
    if reason is not None and reason.get("text"):
        lines.append(f"last exit ({words(reason)}) left:")
        lines += [f"  {line}" for line in reason["text"].splitlines()]
    return lines


def _now(entry: Mapping[str, Any]) -> str:
    process = f", pid {entry['pid']}" if entry["pid"] is not None else ""
    count = entry["restarts"]
    restarts = f", {count} automatic restart{'s' if count > 1 else ''}" if count else ""
    detail = f": {entry['detail']}" if entry["detail"] else ""
    return f"{entry['name']} is {entry['state']} (incarnation {entry['incarnation']}{process}{restarts}){detail}"


def words(reason: Mapping[str, Any] | None) -> str:
    """An exit in a few words: `SIGKILL`, `code 3`, `start_timeout, SIGKILL`."""
    if reason is None:
        return "for no known reason"
    how = reason["signal"] or (f"code {reason['code']}" if reason["code"] is not None else "")
    if reason["reason"] in ("exit", "signal"):
        return how or str(reason["reason"])
    return f"{reason['reason']}, {how}" if how else str(reason["reason"])


def sentence(event: Event) -> str:
    """One event as a clause that can follow "because"."""
    name = event["name"]
    match event["event"]:
        case "exited":
            return f"{name} (incarnation {event['incarnation']}) ended: {words(event['reason'])}{_first_line(event)}"
        case "start_failed":
            how = words(event["reason"]).removeprefix("start_failed").removeprefix(", ")
            return f"a start of {name} failed{f': {how}' if how else ''}{_first_line(event)}"
        case "restarting":
            return _restarting(event)
        case "waiting":
            return f"{name} waits {event.get('delay_s', 0):g} s before it starts again (backoff)"
        case "stopping":
            return f"{name} was asked to stop" + _by(event)
        case "stopped":
            return f"{name} was stopped"
        case "ignored":
            return f"{name} is not needed, as it said itself"
        case "killing":
            return f"{name} did not stop in time and was killed"
        case "starting":
            how = "taken over by a spare" if event.get("standby") else "started"
            return f"{name} was {how} (incarnation {event['incarnation']}, pid {event['pid']})" + _by(event)
        case "ready":
            return f"{name} became ready"
        case "gave_up" | "auto_shutdown" | "unhealthy" | "escalated" | "fault":
            return f"{name}: {event['event'].replace('_', ' ')}{_first_line(event)}"
        case other:
            return _other(other, event)


def _other(kind: str, event: Event) -> str:
    """What says by itself what it is about, or what is said of a child in its own text."""
    if kind.startswith("apply_"):
        return str(event["text"])
    return f"{event['name']}: {kind.replace('_', ' ')}{_first_line(event)}"


def _by(event: Event) -> str:
    return f" by {event['by']}" if event.get("by") else ""


def _first_line(event: Event) -> str:
    text = str(event.get("text") or (event["reason"] or {}).get("text") or "")
    return f" ({_telling_line(text.strip())})" if text.strip() else ""


def _telling_line(text: str) -> str:
    """The line that says most: the exception under a traceback, else the first."""
    lines = text.splitlines()
    if any(line.startswith("Traceback ") for line in lines):
        return lines[-1]
    return lines[0].removesuffix(f"; {STACKS}")


def _restarting(event: Event) -> str:
    scope = [name for name in event.get("scope", ()) if name != event["name"]]
    others = f" together with {', '.join(scope)}" if scope else ""
    return (
        f"{event['name']} is restarted{others} ({event['strategy']}): "
        f"restart {event['used']} of {event['intensity']} in {event['period_s']:g} s"
    )
