"""
What `status` and `tree` print for entries: one fixed-width line each, or the full block of one name.

Pure: entries in, lines out. A line begins with the name and keeps its columns, so that `grep '^web '` and
`awk '$2 != "running"'` work.
"""

from __future__ import annotations

from regrow.daemon.cli.output import about, clock, exit_words, one_line, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from regrow.daemon.cli.output import Screen
    from regrow.daemon.cli.shapes import Entry, Event

CONTRACT_KEYS = (
    "name", "path", "kind", "state", "want", "ready", "pid", "incarnation", "restarts", "since", "last_exit", "detail",
)  # fmt: skip
ADDED_KEYS = ("supervisor", "strategy", "uptime_s")

STATE_COLOURS = {
    "running": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "waiting": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "stopped": "dim",
}
STATE_WIDTH = len("running (ready)")
NAME_WIDTH = 16
BRANCHES = ("├─ ", "└─ ", "│  ")
ASCII_BRANCHES = ("|- ", "`- ", "|  ")


def fact(entry: Entry) -> dict[str, object]:
    """The entry with every key of the contract, in its order, then what the daemon adds."""
    whole: dict[str, object] = {key: entry.get(key) for key in (*CONTRACT_KEYS, *ADDED_KEYS)}
    whole.update(entry)
    return whole


def state_words(entry: Entry) -> str:
    """`running (ready)`, `stopped`."""
    return f"{entry['state']} (ready)" if entry["ready"] else entry["state"]


def status_lines(entries: Sequence[Entry], screen: Screen) -> list[str]:
    """A line for each entry, in the order given."""
    return _table([(entry["name"], entry) for entry in entries], screen)


def tree_lines(entries: Sequence[Entry], screen: Screen) -> list[str]:
    """The same lines, with the names drawn as a tree and each supervisor's strategy beside its name."""
    return _table(tree_labels(entries, wide=screen.wide), screen)


def tree_labels(entries: Sequence[Entry], *, wide: bool) -> list[tuple[str, Entry]]:
    """Each entry under its drawn name, in tree order; one whose supervisor is not among them is a root."""
    children: dict[str | None, list[Entry]] = {}
    shown = {entry["name"] for entry in entries}
    for entry in entries:
        parent = entry.get("supervisor")
        children.setdefault(parent if parent in shown else None, []).append(entry)
    rows: list[tuple[str, Entry]] = []
    for root in children.get(None, []):
        _draw(root, "", "", children, rows, BRANCHES if wide else ASCII_BRANCHES)
    return rows


def block(
    entry: Entry,
    screen: Screen,
    now: float,
    budget: Event | None = None,
    log: Sequence[str] = (),
    log_path: str = "",
) -> list[str]:
    """
    Everything about one name.

    `budget` is the last event that counted a restart for its supervisor, `log` its last output lines.
    """
    words = screen.paint(state_words(entry), STATE_COLOURS.get(entry["state"], ""))
    since = f"since {clock(entry['since'], now)}, {about(now - entry['since'])} ago" if entry["since"] else ""
    dot = "●" if screen.wide else "*"
    lines = [f"{dot} {entry['name']}  {words}  {since}".rstrip()]
    kind = f"{entry['kind']}, {entry['strategy']}" if entry.get("strategy") else entry["kind"]
    facts = [("path", entry["path"]), ("kind", kind), ("pid", _process(entry)), ("wanted", entry["want"])]
    facts += [("restarts", _restarts(entry, budget)), ("last exit", _last_exit(entry, now))]
    facts += [("standby", _standby(entry)), ("detail", one_line(entry["detail"] or "")), ("log", log_path)]
    for label, text in facts:
        if text:
            lines.append(screen.cut(f"  {label:<10} {text}"))
        if label == "last exit" and entry["last_exit"]:
            lines += _quoted((entry["last_exit"].get("text") or "").splitlines(), screen)
        if label == "log":
            lines += _quoted(log, screen)
    return lines


def _quoted(lines: Sequence[str], screen: Screen) -> list[str]:
    bar = "│" if screen.wide else "|"
    return [screen.cut(f"             {bar} {one_line(line)}") for line in lines]


def _process(entry: Entry) -> str:
    if entry["pid"] is None:
        return f"- ({entry['incarnation']} incarnations so far)"
    return f"{entry['pid']} (incarnation {entry['incarnation']})"


def _restarts(entry: Entry, budget: Event | None) -> str:
    if budget is None or "used" not in budget or "intensity" not in budget:
        return str(entry["restarts"])
    period = f" in {budget['period_s']:g} s" if "period_s" in budget else ""
    return f"{entry['restarts']} ({budget['used']} of {budget['intensity']}{period} used at {clock(budget['at'])})"


def _standby(entry: Entry) -> str:
    spares = entry.get("standby")
    if spares is None:
        return ""
    failure = f": {one_line(spares['failure'])}" if spares["failure"] else ""
    return f"{spares['ready']} of {spares['wanted']} ready{failure}"


def _last_exit(entry: Entry, now: float) -> str:
    last = entry["last_exit"]
    if last is None:
        return ""
    ago = f", {about(now - last['at'])} ago" if last.get("at") else ""
    return one_line(exit_words(last)) + ago


def _draw(
    entry: Entry,
    lead: str,
    below: str,
    children: dict[str | None, list[Entry]],
    rows: list[tuple[str, Entry]],
    branches: tuple[str, str, str],
) -> None:
    strategy = f" [{entry['strategy']}]" if entry.get("strategy") else ""
    rows.append((f"{lead}{entry['name']}{strategy}", entry))
    under = children.get(entry["name"], [])
    branch, last, line = branches
    for child in under[:-1]:
        _draw(child, below + branch, below + line, children, rows, branches)
    for child in under[-1:]:
        _draw(child, below + last, below + "   ", children, rows, branches)


def _table(rows: Sequence[tuple[str, Entry]], screen: Screen) -> list[str]:
    width = max([NAME_WIDTH, *(len(label) for label, _ in rows)])
    return [_line(label.ljust(width), entry, screen) for label, entry in rows]


def _line(label: str, entry: Entry, screen: Screen) -> str:
    state = state_words(entry).ljust(STATE_WIDTH)
    pid = f"pid {entry['pid']}" if entry["pid"] is not None else "pid -"
    uptime_s = entry.get("uptime_s") if entry["pid"] is not None else None
    up = f"up {span(uptime_s)}" if uptime_s is not None else "up -"
    last = one_line(exit_words(entry["last_exit"])) or "-"
    detail = one_line(entry["detail"] or "")
    rest = f"{pid:<11}  {up:<14}  restarts {entry['restarts']:<4}  last {last:<16}  {detail}"
    line = screen.cut(f"{label}  {state}  {rest.rstrip()}")
    begin = len(label) + 2
    end = begin + len(state)
    if len(line) < end:
        return line
    return line[:begin] + screen.paint(line[begin:end], STATE_COLOURS.get(entry["state"], "")) + line[end:]
