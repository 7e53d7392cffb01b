"""
Section M: the verb `reload` reads the files again (OTP's code_change): what it changes and what it leaves alone.
"""

from __future__ import annotations

import procs
import pytest
from configs import Config
from tree import SUP, Grow, Tree


def test_c135_new_children_are_listed_and_not_started(grow: Grow) -> None:
    """Children that a reload adds are undefined until restart_child starts each."""
    tree = grow()
    tree.config.supervisor(SUP, "a:P b:P", restart="temporary")
    tree.reload()
    assert tree.children() == [("b", "undefined"), ("a", "undefined")]
    assert tree.trace() == []
    for name in ("a", "b"):
        assert tree.restart_child(name) == tree.pid(name)
    assert tree.children() == [("b", "running"), ("a", "running")]


def refuse_reload(tree: Tree, key: str) -> None:
    """Reload, be refused with that key named, and find children and pids unchanged."""
    before = tree.children(), tree.pids("sup a"), tree.call("get_childspec", supervisor=SUP, child="a")
    refused = tree.refused("reload")
    assert refused.code == "bad_request"
    assert key in refused.message
    assert (tree.children(), tree.pids("sup a"), tree.call("get_childspec", supervisor=SUP, child="a")) == before


def test_c137_bad_reload_changes_nothing(grow: Grow) -> None:
    """
    A bad spec, bad flags or a file that cannot be read: an error, and nothing has changed.

    Interpretation: a file has no way to answer *ignore*; one that is unchanged changes nothing.
    """
    tree = grow("a:P")
    good = tree.config.text()
    tree.reload()
    for bad, key in (
        (good.replace('restart = "permanent"', 'restart = "prmanent"\nsignificant = true'), "worker.a.restart"),
        (good.replace("intensity = 10", "intensity = -1"), "supervisor.sup.intensity"),
        (good + "[broken", "regrow.toml"),
    ):
        assert bad != good
        tree.file.write_text(bad)
        refuse_reload(tree, key)
    assert tree.tries("a") == 0


def test_c138_reload_of_a_template(tree: Tree, config: Config) -> None:
    """A bad template is refused and children keep running; a changed one governs later restarts and stops."""
    config.workers["w"] = {**config.actor("w"), "command": [*config.actor("w")["command"][:-1], "{name}"]}
    config.supervisor("top", SUP).supervisor(SUP, strategy="dynamic", template="w")
    tree.grow()
    pid = tree.call("start_child", supervisor=SUP, spec={"id": "k1"})["pid"]
    config.supervisors[SUP]["template"] = ["w", "v"]
    config.write()
    assert tree.refused("reload").code == "bad_request"
    assert tree.pid("k1") == pid
    config.supervisors[SUP]["template"] = "w"
    config.workers["w"]["restart"] = "temporary"
    tree.reload()
    assert tree.pid("k1") == pid
    tree.call("start_child", supervisor=SUP, spec={"id": "k2"})
    tree.crash("k2")
    tree.wait("exited", "k2")
    assert tree.children() == [("k1", "running")]


def test_c139_never_to_any(grow: Grow) -> None:
    """Before, significant children are refused; after, one of two ends normally and the supervisor shuts down."""
    tree = grow()
    assert tree.start_refused("a", restart="transient", significant=True).code == "bad_request"
    tree.config.supervisors[SUP]["auto_shutdown"] = "any_significant"
    tree.reload()
    for name in ("a", "b"):
        tree.start_child(name, restart="transient", significant=True)
    tree.exit("a", 0)
    tree.wait_ended(SUP)
    assert tree.stops() == "b"


def test_c139_any_to_never(grow: Grow) -> None:
    """A significant child stays, its normal exit no longer ends the supervisor, and no other one is taken."""
    tree = grow("", auto_shutdown="any_significant")
    tree.start_child("a", restart="transient", significant=True)
    sup = tree.pid(SUP)
    tree.config.supervisors[SUP]["auto_shutdown"] = "never"
    tree.reload()
    assert tree.start_refused("b", restart="transient", significant=True).code == "bad_request"
    tree.exit("a", 0)
    tree.wait("exited", "a")
    assert tree.children() == [("a", "undefined")]
    assert tree.pid(SUP) == sup


@pytest.mark.parametrize("after", [True, False])
def test_c140_significance_changes_with_the_reload(grow: Grow, after: bool) -> None:
    """The running child keeps its pid; whether its normal exit ends the supervisor is what the new file says."""
    tree = grow("a:T b:P", auto_shutdown="any_significant", actors={"a": {"significant": not after}})
    before = tree.pids("sup a b")
    tree.config.workers["a"]["significant"] = after
    tree.reload()
    assert tree.pids("sup a b") == before
    tree.exit("a", 0)
    if after:
        tree.wait_ended(SUP)
    else:
        tree.wait("exited", "a")
        assert tree.children() == [("b", "running"), ("a", "undefined")]
        assert tree.pid(SUP) == before["sup"]


def test_rule_s176_new_restart_type_holds_at_once(grow: Grow) -> None:
    """A running permanent child that the reload makes temporary is forgotten when it ends."""
    tree = grow("a:P b:P")
    pid = tree.pid("a")
    tree.config.workers["a"]["restart"] = "temporary"
    tree.reload()
    assert tree.pid("a") == pid
    tree.crash("a")
    tree.wait("exited", "a")
    assert tree.children() == [("b", "running")]


def test_rule_s176_new_command_holds_from_the_next_start(grow: Grow) -> None:
    """The running process stays; the next one is started as the new file says."""
    tree = grow("a:P")
    tree.config.workers["a"]["command"] = [*tree.config.workers["a"]["command"], "new"]
    tree.reload()
    assert tree.tries("a") == 0
    tree.crash_until_new("a")
    assert tree.trace("args") == ["args a"]


def test_rule_s178_s179_missing_children_stay_behind_the_new_list(grow: Grow) -> None:
    """Children that are not in the new list run on, after those of the new list in start order."""
    tree = grow("a:P b:P c:P")
    before = tree.pids("a b c")
    tree.config.supervisors[SUP]["children"] = ["c", "d"]
    del tree.config.workers["a"], tree.config.workers["b"]
    tree.config.worker("d")
    tree.reload()
    assert tree.pids("a b c") == before
    assert tree.children() == [("b", "running"), ("a", "running"), ("d", "undefined"), ("c", "running")]
    assert tree.down() == 0
    assert tree.stops() == "b a c"


def test_rule_s175_strategy_and_intensity_change_and_history_is_kept(grow: Grow) -> None:
    """Two restarts before the reload count against the lower intensity that it sets."""
    tree = grow("a:P b:P", intensity=5, period="3600s")
    tree.crash_until_new("a")
    tree.crash_until_new("a")
    before = tree.pids("a b")
    tree.config.supervisors[SUP] |= {"intensity": 3, "strategy": "one_for_all"}
    tree.reload()
    tree.forget()
    tree.crash("a")
    tree.wait_new(**before)
    assert tree.stops() == "b"
    tree.crash("a")
    tree.wait_ended(SUP)


def test_rule_s176_reload_of_a_nested_supervisor(tree: Tree, config: Config) -> None:
    """A reload reaches every level: new flags of a nested supervisor hold, all processes stay."""
    config.supervisor("top", "mid").supervisor("mid", SUP).supervisor(SUP, "a:P", restart="transient")
    tree.grow()
    before = tree.pids("top mid sup a")
    config.supervisors[SUP]["intensity"] = 0
    tree.reload()
    assert tree.pids("top mid sup a") == before
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.children("mid") == [(SUP, "undefined")]


def test_rule_s111_a_reload_outlives_the_crash_of_the_root_supervisor(tree: Tree, config: Config) -> None:
    """What a reload brought is the static list from then on, also for the file's own root supervisor."""
    config.supervisor("app", "a:P")
    tree.grow()
    config.supervisor("app", "a:P b:P")
    tree.reload()
    before = tree.pids("app a")
    procs.kill(before["app"])
    tree.wait("ready", "b")
    assert tree.children("app") == [("b", "running"), ("a", "running")]
    assert tree.pids("app")["app"] != before["app"]


def test_rule_s136_terminate_child_is_what_is_wanted(grow: Grow) -> None:
    """terminate_child and restart_child change what is wanted of a child, as stop and start do."""
    tree = grow("a:P")
    tree.terminate_child("a")
    assert tree.entry("a")["want"] == "down"
    tree.restart_child("a")
    assert tree.entry("a")["want"] == "up"
