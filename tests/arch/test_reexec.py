"""Nothing that root or supervisors know is forgotten in an exec: each attribute has its way through it."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

CARRIED: dict[str, str] = {
    "root.Root": "plan state events tree lock_fd asking deploying replanning books streams outputs runtime sockets "
    "verbs server reexec notify watchdog_s",
    "replanning.Replanning": "own top wanted members",
    "asking.Asking": "newest",
    "runtime.Runtime": "context spec path upward state processes own group hearing reaper relay timers "
    "standby recording",
    "reaping.Reaper": "_by_pid _supervisors _leftovers",
    "linux.leftovers.Leftovers": "_strangers _living _owners",
    "linux.owners.Owners": "own_key mains aliases guarded _own _living _workers _supervisors _sessions _seen",
    "relay.Relay": "_inherited _incarnations",
    "hearing.Hearing": "_notify address",
    "timers.Timers": "_timers",
    "stacks.Stacks": "_pid _fd _raw _asked _why_none",
    "spawning.Spawner": "_group",
    "pipes.Pipes": "_way",
    "pipes.Arrivals": "_way",
    "streams.Streams": "_channel _fd _log_dir _streams _paths _lost _next _queue",
    "channel.Channel": "_socket fd _partial _queue _dropped",
    "events.EventLog": "_events _next _subscribers _numbers _latest",
    "books.Books": "_asked_by _left ends final_text _failed_first _final_event",
    "ends.Ends": "_ends _waiting _waits",
    "tree.Tree": "nodes spares _printed_early tops",
    "control.Connection": "_socket fd verbs identity _received _unsent _ended _owed follows on_close",
    "control.ControlServer": "connections _access _agents _path _socket",
    "standby.Standby": "serial",
    "deploying.plans.Plans": "held",
    "sockets.Sockets": "held retired _lasting",
    "recording.Recording": "_fd _unwritten _supervisor _recorder",
    "process.Process": "name incarnation spec pid status_fd running told_to_stop stacks channel env group oom_kills "
    "failure exception last_word",
    "alive.Alive": "_tick_s",
}
"""What goes through: in the value itself, or with it."""

ANEW: dict[str, str] = {
    "root.Root": "loop _alive additions",
    "asking.Asking": "_root",
    "replanning.Replanning": "_root",
    "additions.Additions": "_root _checked",
    "runtime.Runtime": "loop probes pipes spawner signaller renewal _pid _telling _do",
    "reaping.Reaper": "_runtime",
    "linux.leftovers.Leftovers": "_watcher _changed _children _looking_again",
    "linux.owners.Owners": "_marked _in_exec",
    "relay.Relay": "_runtime",
    "hearing.Hearing": "_runtime",
    "timers.Timers": "_loop _feed _excused",
    "signalling.Signaller": "_loop _processes _asked",
    "stacks.Stacks": "_loop _timers",
    "spawning.Spawner": "_runtime _shims",
    "pipes.Pipes": "_tell",
    "pipes.Arrivals": "_loop _take",
    "streams.Streams": "_loop _printed _matched _note _timer",
    "channel.Channel": "_loop _decode _from_above _on_message _on_closed on_recovered",
    "books.Books": "_root",
    "tree.Tree": "leaving ending",
    "control.Connection": "_server",
    "control.ControlServer": "loop serve _paused",
    "standby.Standby": "_runtime _on _timer _due_s _groups",
    "deploying.deploying.Deploying": "_root _plans _keeping",
    "deploying.plans.Plans": "_root",
    "deploying.keeping.Keeping": "_root _last",
    "sockets.Sockets": "_root",
    "recording.Recording": "_loop _timer _full",
    "process.Process": "event_s health",
    "alive.Alive": "_root _tell _unheard _age _status _extending",
    "verbs.Verbs": "_root exit_reason _table",
}
"""What the new program makes for itself, because nothing is lost with it."""

EMPTY: dict[str, str] = {
    "asking.Asking": "_asked",
    "root.Root": "errands _interrupted _hung_up",
    "replanning.Replanning": "_begins",
    "runtime.Runtime": "end _inbox _stepping _applied",
    "reaping.Reaper": "_lingering _finished",
    "linux.leftovers.Leftovers": "_waiting _ending",
    "linux.owners.Owners": "_waiting",
    "stacks.Stacks": "_answered",
    "spawning.Spawner": "_shortages _outputs",
    "pipes.Pipes": "_numbers _holding",
    "channel.Channel": "_put closed _arrived",
    "tree.Tree": "announced",
    "control.Connection": "closed",
    "standby.Standby": "_handed",
    "deploying.deploying.Deploying": "apply _reading_for _cancelled",
    "deploying.keeping.Keeping": "_unwritten _writing",
    "sockets.Sockets": "_changing",
    "process.Process": "ended spare",
}
"""What has nothing in it whenever an exec is allowed: else somebody is busy, and it waits."""


@pytest.mark.parametrize("name", sorted({*CARRIED, *ANEW, *EMPTY}))
def test_every_attribute_has_its_way(name: str) -> None:
    """Whoever adds one says here how it goes through an exec; `regrow.daemon.reexec` has to do it."""
    module, _, kind = name.rpartition(".")
    made = getattr(importlib.import_module(f"regrow.daemon.{module}"), kind).__init__
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(made)))
    stored = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    listed = [attribute for table in (CARRIED, ANEW, EMPTY) for attribute in table.get(name, "").split()]
    assert sorted(listed) == sorted(stored)
