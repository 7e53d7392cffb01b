"""What `events` prints for one event: when, what, who, and why in words. Pure."""

from __future__ import annotations

from regrow.daemon.cli.output import about, clock, exit_words, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from regrow.daemon.cli.output import Screen
    from regrow.daemon.cli.shapes import Event

EVENT_COLOURS = {
    "ready": "green",
    "continued": "green",
    "fault_cleared": "green",
    "exited": "red",
    "start_failed": "red",
    "gave_up": "red",
    "escalated": "red",
    "fault": "red",
    "killing": "red",
    "unhealthy": "yellow",
    "leftovers": "yellow",
    "restarting": "yellow",
    "waiting": "yellow",
    "backpressure": "yellow",
    "command_left": "yellow",
    "command_refused": "yellow",
    "dead_letter": "red",
    "signals_lost": "yellow",
    "store": "yellow",
}
EVENT_WIDTH = len("daemon_stopping")
NAME_WIDTH = 16


def event_line(event: Event, screen: Screen, now: float | None = None) -> str:
    """`10:02:11 #41 exited web SIGKILL (out of memory)  <- #40`, in columns."""
    kind = event["event"].ljust(EVENT_WIDTH)
    begin = f"{clock(event['at'], now)}  {'#' + str(event['seq']):<7} "
    cause = f"because of #{event['cause']}" if event.get("cause") is not None else ""
    parts = "  ".join(part for part in (event_words(event), cause) if part)
    line = screen.cut(f"{begin}{kind}  {event['name']:<{NAME_WIDTH}}  {parts}".rstrip())
    end = len(begin) + len(kind)
    return line[: len(begin)] + screen.paint(line[len(begin) : end], EVENT_COLOURS.get(event["event"], "")) + line[end:]


def event_words(event: Event) -> str:
    """Everything an event says beside who and when."""
    words = [exit_words(event.get("reason"))]
    if event["event"] in ("starting", "ready") and event.get("pid") is not None:
        words.append(f"pid {event['pid']}" + (", a spare" if event.get("standby") else ""))
    if "delay_s" in event:
        words.append(f"in {about(event['delay_s'])}")
    if "used" in event and "intensity" in event:
        period = f" in {event['period_s']:g} s" if "period_s" in event else ""
        words.append(f"{event['used']} of {event['intensity']} restarts{period}")
    if "strategy" in event:
        words.append(event["strategy"])
    if event.get("scope"):
        words.append("with " + " ".join(event["scope"]))
    if event.get("text"):
        words.append(event["text"])
    return one_line(", ".join(word for word in words if word))
