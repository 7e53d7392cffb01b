"""What `regrow systemd` writes, under a real systemd."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from booted import REGROW, SHARE, Machine, Watched
from services import HOLDS, SAYS, TAKES_LEAVE, Tree, worker

pytestmark = pytest.mark.root

EXPOSURE = 5.0
"""Below it `systemd-analyze security` says OK; most services of a distribution are above 9."""


def test_active_means_that_the_whole_tree_is_ready(tree: Tree) -> None:
    """A start is over when the last child is ready, not before; the status text says how many there are."""
    tree.install(worker("quick"), worker("late", more=f'ready = {{ file = "{SHARE}/go" }}'))
    tree.machine.systemctl("start", "--no-block", tree.unit)
    tree.machine.await_bell("here late")
    assert tree.state() == ("activating", "start")
    (tree.machine.share / "go").touch()
    tree.start()
    assert tree.show("StatusText") == "3 of 3 ready"


def test_bad_file_fails_once(tree: Tree) -> None:
    """A file that is wrong fails the start with 78; nothing tries again, and the journal says what is wrong."""
    tree.install(worker("one"))
    tree.file.write_text("[supervisor.top]\nstratgy = 'one_for_all'\n")
    assert tree.machine.run("systemctl", "start", tree.unit).returncode != 0
    assert tree.state() == ("failed", "failed")
    assert (tree.show("Result"), tree.show("ExecMainStatus"), tree.show("NRestarts")) == ("exit-code", "78", "0")
    assert "did you mean `strategy`" in tree.machine.journal(tree.unit)


def test_stop_is_orderly(tree: Tree) -> None:
    """A stop asks the children in the reverse order of their start, and leaves neither processes nor run_dir."""
    tree.install(worker("first", TAKES_LEAVE), worker("second", TAKES_LEAVE))
    tree.start()
    group = tree.machine.unit_group(tree.unit)
    with Watched(tree.pids()) as processes:
        tree.machine.heard()
        tree.machine.systemctl("stop", tree.unit)
        processes.await_end()
    assert tree.machine.heard() == ["bye second", "bye first", f"ended {tree.name} success exited 0"]
    assert tree.state() == ("inactive", "dead")
    assert not os.path.exists(group.path)
    assert tree.machine.run("ls", f"/run/regrow/{tree.name}").returncode != 0


def test_stop_may_take_what_the_file_says(tree: Tree) -> None:
    """A child that needs longer than TimeoutStopSec, as its `shutdown` lets it, gets it: the root asks for more."""
    lingers = f"trap 'timeout 1.5 cat {SHARE}/hold; exit 0' TERM; {SAYS}; cat {SHARE}/hold & wait"
    tree.install(worker("slow", lingers, 'shutdown = "60s"'), drop_in="TimeoutStopSec=1s\n")
    tree.start()
    tree.machine.heard()
    tree.machine.systemctl("stop", tree.unit)
    assert tree.machine.heard() == [f"ended {tree.name} success exited 0"]


def test_stop_during_start(tree: Tree) -> None:
    """A stop while a child is not ready yet ends the start in order."""
    tree.install(worker("never", more=f'ready = {{ file = "{SHARE}/never", timeout = "60s" }}'))
    tree.machine.systemctl("start", "--no-block", tree.unit)
    tree.machine.await_bell("here never")
    with Watched(tree.pids()) as processes:
        tree.machine.systemctl("stop", tree.unit)
        processes.await_end()
    assert tree.state() == ("inactive", "dead")


def test_killed_root_comes_back(tree: Tree) -> None:
    """SIGKILL to the main process: the whole tree dies with it, and systemd brings all of it back."""
    tree.install(worker("first"), worker("second"))
    tree.start()
    with Watched(tree.pids()) as before:
        tree.machine.heard()
        tree.machine.systemctl("kill", "-s", "KILL", "--kill-who=main", tree.unit)
        tree.machine.await_bell(f"ended {tree.name} signal killed KILL")
        before.await_end()
    tree.machine.await_bell("here second")
    tree.start()
    assert tree.show("NRestarts") == "1"
    assert (tree.child("first")["state"], tree.child("second")["state"]) == ("running", "running")


def test_hung_root_is_replaced(tree: Tree) -> None:
    """A stopped root feeds no watchdog: systemd kills it and starts the tree anew."""
    tree.install(worker("one"), drop_in="WatchdogSec=2s\n")
    tree.start()
    with Watched(tree.pids()) as before:
        tree.machine.heard()
        tree.machine.systemctl("kill", "-s", "STOP", "--kill-who=main", tree.unit)
        tree.machine.await_bell(f"ended {tree.name} watchdog killed ABRT")
        before.await_end()
    tree.machine.await_bell("here one")
    tree.start()


def test_hung_supervisor_is_replaced_alone(tree: Tree) -> None:
    """A nested supervisor that answers no more is killed by the root, and its own subtree comes back; nothing else."""
    tree.install(worker("beside"), worker("below"), drop_in="WatchdogSec=4s\n")
    shape = '[supervisor.top]\nchildren = ["beside", "inner"]\n[supervisor.inner]\nchildren = ["below"]\n'
    tree.file.write_text(shape + worker("beside") + worker("below"))
    tree.start()
    (home,) = Path(tree.machine.unit_group(tree.unit).path).glob("regrow.*/@top/@inner/daemon")
    others = [tree.machine.main_pid(tree.unit), tree.pid_of("top"), tree.pid_of("beside")]
    with Watched(others) as untouched, Watched([tree.pid_of("inner"), tree.pid_of("below")]) as hung:
        tree.machine.heard()
        (home / "cgroup.freeze").write_text("1")  # SIGSTOP would not do: the one above continues it at once
        hung.await_end()
        tree.machine.await_bell("here below")
        assert untouched.are_alive()
    assert tree.show("NRestarts") == "0"
    assert "supervisor inner" in tree.machine.journal(tree.unit)


def test_reload_restarts_nobody(tree: Tree) -> None:
    """`systemctl reload` applies a changed file; processes that need no restart stay."""
    tree.install(worker("one"))
    tree.start()
    with Watched([tree.machine.main_pid(tree.unit), tree.pid_of("one")]) as processes:
        tree.file.write_text(tree.file.read_text().replace("[supervisor.top]", "[supervisor.top]\nintensity = 9"))
        tree.machine.systemctl("reload", tree.unit)
        events = (*REGROW, "events", "--name", tree.name, "-f", "--format", "json")
        tree.machine.await_line('"event": "apply_done"', *events)
        assert processes.are_alive()
    assert tree.state()[0] in ("active", "reloading")


def test_reload_of_a_bad_file_fails(tree: Tree) -> None:
    """`systemctl reload` of a file that is wrong fails, and changes nothing."""
    tree.install(worker("one"))
    tree.start()
    with Watched(tree.pids()) as processes:
        tree.file.write_text("[supervisor.top]\nstratgy = 'one_for_all'\n")
        assert tree.machine.run("systemctl", "reload", tree.unit).returncode != 0
        assert processes.are_alive()
    assert tree.state() == ("active", "running")
    assert "did you mean `strategy`" in tree.machine.journal(tree.unit)


def test_reload_that_fails_late_ends(tree: Tree) -> None:
    """SIGHUP with a file that is wrong by then: the unit does not go on reloading, and its status says why."""
    tree.install(worker("one"))
    tree.start()
    tree.file.write_text("[supervisor.top]\nstratgy = 'one_for_all'\n")
    tree.machine.systemctl("kill", "-s", "HUP", "--kill-who=main", tree.unit)
    while (told := tree.machine.run(*REGROW, "reload", "--name", tree.name)).returncode == 1:
        assert "an apply by SIGHUP is reading its files" in told.stderr
    assert told.returncode == 78
    assert tree.state() == ("active", "running")
    assert "nothing was applied" in tree.show("StatusText")


def test_each_child_has_a_group_of_its_own(tree: Tree) -> None:
    """The delegated group has a leaf for each child, with all that it forks; it goes when the child is stopped."""
    escapes = f"env -i setsid sh -c \"trap '' TERM; echo out > {SHARE}/bell; cat {SHARE}/hold\" & {HOLDS}"
    tree.install(worker("wild", escapes), worker("tame"))
    tree.start()
    tree.machine.await_bell("out")
    unit = tree.machine.unit_group(tree.unit)
    (own,) = Path(unit.path).glob("regrow.*")
    wild, tame = own / "@top" / "@wild", own / "@top" / "@tame"
    assert (tame / "cgroup.procs").read_text().split() == [str(tree.pid_of("tame"))]
    pids = [int(pid) for pid in (wild / "cgroup.procs").read_text().split()]
    assert tree.pid_of("wild") in pids
    assert len(pids) >= 2
    with Watched(pids) as processes:
        tree.machine.regrow("stop", "--name", tree.name, "wild")
        processes.await_end()
    assert not wild.exists()
    assert tame.exists()


EATS = (  # memory that no limit of a process counts
    "import os; fd = os.memfd_create('eaten'); piece = bytes(1 << 20)\n"
    "for _ in range(256): os.write(fd, piece)\nos.read(0, 1)"
)


def test_out_of_memory_is_named(tree: Tree) -> None:
    """A child beyond its limit is killed by the kernel, with all that it has forked, and the cause has its name."""
    if "memory" not in Path(tree.machine.group.path, "cgroup.controllers").read_text().split():
        pytest.skip("the memory controller is not in the second version of control groups here")
    script = f"cat {SHARE}/hold & exec python3 -c {shlex.quote(EATS)}"
    hungry = worker("hungry", script, more='restart = "temporary"\nlimits = { memory = "64MiB" }')
    tree.install(worker("beside"), hungry)
    tree.start()
    tree.machine.await_line("out of memory", *REGROW, "events", "-f", "--name", tree.name, "hungry")
    assert tree.child("hungry")["last_exit"]["reason"] == "oom"  # type: ignore[index]
    assert tree.child("beside")["restarts"] == 0
    assert tree.state() == ("active", "running")
    assert not list(Path(tree.machine.unit_group(tree.unit).path).glob("regrow.*/@top/@hungry"))


def test_processes_are_limited(tree: Tree) -> None:
    """The kernel holds the number of processes of a child and of all that it forks."""
    if "pids" not in Path(tree.machine.group.path, "cgroup.controllers").read_text().split():
        pytest.skip("the pids controller is not in the second version of control groups here")
    tree.install(worker("few", more="limits = { processes = 4 }"))
    tree.start()
    (group,) = Path(tree.machine.unit_group(tree.unit).path).glob("regrow.*/@top/@few")
    assert (group / "pids.max").read_text().strip() == "4"


def test_new_regrow_goes_on_in_place(tree: Tree) -> None:
    """`regrow reexec` in the unit: the same main process, nobody restarted, watched, reloaded, stopped in order."""
    tree.install(worker("first", TAKES_LEAVE), worker("second"), drop_in="WatchdogSec=2s\n")
    tree.start()
    pids = tree.pids()
    said = tree.machine.regrow("reexec", "--name", tree.name)
    assert "root and 2 supervisors" in said, said
    assert (tree.state(), tree.show("StatusText")) == (("active", "running"), "3 of 3 ready")
    tree.write(worker("first", TAKES_LEAVE), worker("second"), worker("third"))
    tree.machine.systemctl("reload", tree.unit)
    tree.machine.await_bell("here third")
    assert set(pids) <= set(tree.pids())
    tree.machine.run("timeout", "3", "cat", f"{SHARE}/hold")  # as long as a watchdog that nobody feeds would not wait
    assert (tree.state(), set(pids) <= set(tree.pids())) == (("active", "running"), True)
    tree.machine.systemctl("stop", tree.unit)
    tree.machine.await_bell("bye first")
    assert (tree.show("Result"), tree.show("NRestarts")) == ("success", "0")


def test_child_of_another_user(tree: Tree) -> None:
    """`user =` works in the hardened unit."""
    tree.install(worker("nobody", more='user = "nobody"'))
    tree.start()
    assert os.stat(f"/proc/{tree.pid_of('nobody')}").st_uid == 65534
    tree.machine.systemctl("restart", tree.unit)
    tree.machine.systemctl("stop", tree.unit)
    assert tree.show("Result") == "success"


def test_whole_tree_of_another_user(tree: Tree) -> None:
    """With User= in a drop-in, and the places in the file, the daemon needs no root; its group is its own."""
    tree.install(worker("one"), top=tree.places(), drop_in="User=nobody\n")
    tree.start()
    assert {os.stat(f"/proc/{pid}").st_uid for pid in tree.pids()} == {65534}
    assert list(Path(tree.machine.unit_group(tree.unit).path).glob("regrow.*/@top/@one"))


def test_tree_with_agents(tree: Tree) -> None:
    """Agents, the hub, the store and the commands worker start in the hardened unit, and answer."""
    source = "from regrow.workers import Agent, handler\n\n\nclass Adder(Agent):\n    @handler\n"
    source += "    def add(self, a: int, b: int) -> int:\n        return a + b\n"
    (tree.machine.share / "adder.py").write_text(source)
    tree.install('[worker.adder]\nagent = "adder:Adder"\n')
    tree.start()
    assert tree.machine.regrow("call", "--name", tree.name, "adder", "add", "a=2", "b=3").strip() == "5"


def test_install_says_what_to_type(tree: Tree) -> None:
    """Install writes and links once, enable works as printed, uninstall refuses what runs, then undoes all of it."""
    machine, unit = tree.machine, "/etc/systemd/system/regrow@.service"
    tree.write(worker("one"))
    first = machine.regrow("systemd", "install", f"{SHARE}/{tree.file.name}").splitlines()
    assert first[-2:] == [f"linked /etc/regrow/{tree.name}.toml", f"now type: systemctl enable --now {tree.unit}"]
    again = machine.regrow("systemd", "install", f"{SHARE}/{tree.file.name}").splitlines()
    assert again[-3:-1] == [f"unchanged {unit}", f"unchanged /etc/regrow/{tree.name}.toml"]
    machine.do(*first[-1].removeprefix("now type: ").split())
    assert tree.state() == ("active", "running")
    refused = machine.run(*REGROW, "systemd", "uninstall", tree.name)
    assert refused.returncode == 1
    assert f"systemctl disable --now {tree.unit}" in refused.stderr
    machine.systemctl("stop", tree.unit)
    machine.regrow("systemd", "uninstall", tree.name)
    assert machine.run("systemctl", "is-enabled", tree.unit).stdout.strip() != "enabled"
    assert machine.run("ls", f"/etc/regrow/{tree.name}.toml").returncode != 0
    assert machine.run("ls", unit).returncode != 0
    assert machine.regrow("systemd", "uninstall").splitlines() == [f"not there: {unit}"]


def test_systemd_finds_nothing_wrong_with_the_unit(tree: Tree) -> None:
    """`systemd-analyze verify` is silent, and `security` says OK."""
    tree.install(worker("one"))
    done = tree.machine.run("systemd-analyze", "verify", f"{tree.unit}.service")
    assert (done.returncode, done.stderr) == (0, "")
    said = tree.machine.do("systemd-analyze", "security", "--no-pager", f"{tree.unit}.service")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+) (\w+)", said)
    assert exposure is not None
    assert float(exposure[1]) < EXPOSURE, said
    assert exposure[2] == "OK"


def test_user_unit(machine: Machine) -> None:
    """The unit for `systemctl --user`, under a user's own manager: active, delegated, stopped, uninstalled."""
    home, runtime = f"{SHARE}/home", "/run/user/65534"
    (machine.share / "mine.toml").write_text(f'[supervisor.top]\nchildren = ["one"]\n{worker("one")}')
    machine.do("install", "-d", "-o", "65534", "-m", "700", home, runtime)
    env = {"HOME": home, "XDG_RUNTIME_DIR": runtime}
    as_user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    manager = "\n".join(
        ["[Service]", "User=nobody", "Type=notify", "Delegate=yes", "KillMode=mixed", "StandardError=null"]
        + [f"Environment={name}={value}" for name, value in env.items()]
        + ["ExecStart=/lib/systemd/systemd --user --unit=basic.target", ""]
    )
    machine.do("sh", "-c", 'printf %s "$0" > /etc/systemd/system/manager.service', manager)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "manager.service")
    try:
        said = machine.do(*as_user, *REGROW, "systemd", "install", "--user", f"{SHARE}/mine.toml", env=env)
        done = machine.run(*as_user, *said.splitlines()[-1].removeprefix("now type: ").split(), env=env)
        assert done.returncode == 0, machine.do("journalctl", "--no-pager", "-o", "cat", "-b")
        shown = machine.do(*as_user, "systemctl", "--user", "show", "-P", "ControlGroup", "regrow@mine", env=env)
        assert list(Path(machine.group.path + shown.strip()).glob("regrow.*/@top/@one")), shown
        assert "one" in machine.do(*as_user, *REGROW, "status", "--name", "mine", env=env)
        verified = machine.run(*as_user, "systemd-analyze", "--user", "verify", "regrow@mine.service", env=env)
        assert (verified.returncode, verified.stderr) == (0, "")
        machine.do(*as_user, "systemctl", "--user", "disable", "--now", "regrow@mine", env=env)
        machine.do(*as_user, *REGROW, "systemd", "uninstall", "--user", env=env)
    finally:
        machine.systemctl("stop", "manager.service")


def test_reload_during_stop(tree: Tree) -> None:
    """A reload that comes while the tree stops, by SIGHUP or from the manager, holds nothing up and starts nothing."""
    waits = f"trap 'echo stopping > {SHARE}/bell; cat {SHARE}/hold; exit 0' TERM; {SAYS}; cat {SHARE}/hold & wait"
    tree.install(worker("first"), worker("slow", waits, 'shutdown = "60s"'))
    tree.start()
    with Watched(tree.pids()) as processes, Watched([tree.pid_of("slow")]) as slow:
        tree.machine.systemctl("stop", "--no-block", tree.unit)
        tree.machine.await_bell("stopping")
        assert tree.machine.run("systemctl", "reload", tree.unit).returncode != 0
        tree.write(worker("first"), worker("slow", waits, 'shutdown = "60s"'), worker("third"))
        tree.machine.systemctl("kill", "-s", "HUP", "--kill-who=main", tree.unit)
        assert tree.machine.run(*REGROW, "reload", "--name", tree.name).returncode == 1
        assert slow.are_alive()
        slow.send(signal.SIGKILL)
        processes.await_end()
    tree.machine.await_bell(f"ended {tree.name} success exited 0")
    tree.machine.systemctl("stop", tree.unit)  # returns when the first one is over: the bell rings a moment before
    assert tree.state() == ("inactive", "dead")
    assert "here third" not in tree.machine.heard()


def test_two_instances_of_one_file(tree: Tree) -> None:
    """Two links to one file are two trees, each with its places; where the file names them, the second one fails."""
    twin = Tree(tree.machine, f"{tree.name}-twin")
    twin.file.unlink(missing_ok=True)
    twin.file.symlink_to(tree.file.name)
    tree.install(worker("one"))
    tree.start()
    twin.machine.regrow("systemd", "install", f"{SHARE}/{twin.file.name}")
    try:
        with Watched(tree.pids()) as first:
            twin.start()
            assert twin.child("one")["state"] == "running"
            twin.machine.systemctl("stop", twin.unit)
            tree.write(worker("one"), top=f'[daemon]\nrun_dir = "/run/regrow/{tree.name}"\n')
            refused = twin.machine.run("systemctl", "start", twin.unit)
            assert refused.returncode != 0
            twin.machine.systemctl("stop", twin.unit)  # it would be tried again
            assert first.are_alive()
        said = twin.machine.journal(twin.unit)
        assert f"cannot use /run/regrow/{tree.name}: another regrow (pid " in said
        assert "Traceback" not in said
        assert tree.child("one")["restarts"] == 0
    finally:
        twin.remove()


def test_full_runtime_directory(tree: Tree) -> None:
    """Where there is no room for anything the start fails with one line; it is tried again until there is."""
    place = f"/run/regrow/{tree.name}"
    tree.install(worker("one"))
    tree.machine.do("mkdir", "-p", place)
    tree.machine.do("mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=1", "tmpfs", place)
    try:
        assert tree.machine.run("systemctl", "start", tree.unit).returncode != 0
        tree.machine.await_bell(f"ended {tree.name} exit-code exited 1")
        assert f"cannot use {place}: No space left on device" in tree.machine.journal(tree.unit)
        tree.machine.do("mount", "-o", "remount,nr_inodes=100", place)
        tree.machine.await_bell("here one")
        tree.start()
        assert tree.child("one")["state"] == "running"
        tree.machine.systemctl("stop", tree.unit)
        assert "Traceback" not in tree.machine.journal(tree.unit)
    finally:
        tree.machine.run("systemctl", "stop", tree.unit)
        tree.machine.do("umount", place)


def test_runtime_directory_that_fills_up(tree: Tree) -> None:
    """A running tree does without room: children are restarted, it can be asked, and it stops in order."""
    place = f"/run/regrow/{tree.name}"
    source = "from regrow.workers import Agent, handler\n\n\nclass Echo(Agent):\n    @handler\n"
    source += "    def echo(self, word: str) -> str:\n        return word\n"
    (tree.machine.share / "echoing.py").write_text(source)
    tree.install(worker("one"), '[worker.echo]\nagent = "echoing:Echo"\n')
    tree.machine.do("mkdir", "-p", place)
    tree.machine.do("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    try:
        tree.start()
        assert tree.machine.run("dd", "if=/dev/zero", f"of={place}/filler", "bs=4k").returncode != 0
        tree.machine.heard()
        with Watched([tree.pid_of("one")]) as killed:
            killed.send(signal.SIGKILL)
            killed.await_end()
        tree.machine.await_bell("here one")
        assert "hello" in tree.machine.regrow("call", "--name", tree.name, "echo", "echo", "word=hello")
        tree.machine.systemctl("stop", tree.unit)
        assert tree.show("Result") == "success"
    finally:
        tree.machine.run("systemctl", "stop", tree.unit)
        tree.machine.do("umount", place)
