"""What a spec asks for is what the child finds: user, environment, masks, limits."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any

import procs
import pytest
from configs import Config
from farm import FOREVER, Farm, python, shell
from tree import Tree
from wire import TIMEOUT_S

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users")


def printed(farm: Farm, name: str, script: str, **keys: Any) -> list[str]:
    """What a shell script prints before it says `up` and stays."""
    farm.add(name, shell(f"{script}; echo up; exec tail -f /dev/null"), ready={"line": "^up$"}, **keys)
    return farm.log(name).splitlines()[:-1]


@pytest.mark.root
@needs_root
def test_user(farm: Farm) -> None:
    """The child has the user's ids and groups and no others, its HOME, USER and LOGNAME."""
    lines = printed(farm, "dropped", "id -u; id -g; id -G; echo $HOME $USER $LOGNAME", user="nobody")
    assert lines == ["65534", "65534", "65534", "/nonexistent nobody nobody"]


@pytest.mark.root
@needs_root
def test_user_and_group(farm: Farm) -> None:
    """`group` replaces the primary group; real, effective and saved ids are all the user's."""
    lines = printed(farm, "grouped", "grep -E '^(Uid|Gid|Groups)' /proc/self/status", user="nobody", group="daemon")
    assert lines[0].split() == ["Uid:"] + ["65534"] * 4
    assert lines[1].split() == ["Gid:"] + ["1"] * 4
    assert set(lines[2].split()[1:]) <= {"1", "65534"}


@pytest.mark.root
@needs_root
def test_user_dies_with_its_supervisor(tree: Tree, config: Config) -> None:
    """The change of user does not lose the tie to the supervisor, which setresuid clears (PR_SET_PDEATHSIG(2const))."""
    config.workers["tied"] = {"command": FOREVER, "user": "nobody"}
    config.supervisor("top", "sup").supervisor("sup", "tied")
    tree.grow()
    pid = tree.pid("tied")
    with contextlib.ExitStack() as stack:
        fd = procs.pidfd(pid)
        stack.callback(os.close, fd)
        tree.crash("sup")
        assert select.select([fd], [], [], TIMEOUT_S)[0]
    assert tree.wait_new(tied=pid)["tied"] != pid


def test_env(farm: Farm) -> None:
    """`env` is laid over `env_file`, that over the daemon's environment; regrow's own names are told truly."""
    file = farm.directory / "their.env"
    file.write_text("# comment\nA=file\nB='quoted value'\nexport C=3\n")
    script = (
        'echo "$A/$B/$C/$REGROW_NAME/$REGROW_INCARNATION/$REGROW_SUPERVISOR/$REGROW_RUN_DIR"; test -n "$PATH"; echo $?'
    )
    lines = printed(farm, "environed", script, env={"A": "own"}, env_file=str(file))
    assert lines == [f"own/quoted value/3/environed/1/sup/{farm.directory}/run", "0"]


def test_env_file_vanished(farm: Farm) -> None:
    """An env_file that is not there is an error of the spec."""
    refused = farm.refused(
        "start_child", supervisor="sup", spec={"id": "x", "command": ["true"], "env_file": "/no/such.env"}
    )
    assert refused.code == "bad_request"
    assert "/no/such.env" in refused.message


def test_environment_of_the_daemon_is_not_leaked(farm: Farm) -> None:
    """NOTIFY_SOCKET is the supervisor's, never the one that systemd gave to the daemon."""
    assert printed(farm, "told", "echo $NOTIFY_SOCKET")[0].startswith("@regrow/")


def test_umask_and_nice(farm: Farm) -> None:
    """Umask and niceness as written."""
    lines = printed(farm, "masked", "umask; nice", umask="027", nice=5)
    assert lines == ["0027", "5"]


def test_limits(farm: Farm) -> None:
    """open_files, processes, core, cpu and file_size become the child's limits, soft and hard."""
    limits = {"open_files": 123, "processes": 4567, "core": 0, "cpu": "60s", "file_size": "1MiB"}
    lines = printed(farm, "limited", "cat /proc/self/limits", limits=limits)
    found = {line[:25].strip(): line[25:].split()[:2] for line in lines}
    assert found["Max open files"] == ["123", "123"]
    assert found["Max processes"] == ["4567", "4567"]
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max cpu time"] == ["60", "61"]
    assert found["Max file size"] == ["1048576", "1048576"]


def test_own_open_files_limit_is_the_callers(farm: Farm) -> None:
    """The daemon raises its own limit of descriptors, not its children's: select(2) of old programs would break."""
    found = next(line for line in printed(farm, "modest", "cat /proc/self/limits") if "open files" in line)
    with open("/proc/self/limits") as own:
        expected = next(line for line in own if "open files" in line)
    assert found.split()[3:5] == expected.split()[3:5]


def test_signals_are_as_they_should_be(farm: Farm) -> None:
    """No signal is blocked or ignored in a new child, whatever the daemon does with them."""
    farm.add("signalled", ["grep", "-E", "^(SigBlk|SigIgn)", "/proc/self/status"], restart="temporary")
    log = farm.eventually(lambda: farm.log("signalled"), lambda text: text.count("\n") == 2)
    assert [int(line.split()[1], 16) for line in log.splitlines()] == [0, 0]


def test_no_descriptor_leaks_in(farm: Farm) -> None:
    """A child has 0, 1 and 2, and no descriptor of the daemon."""
    name = "clean"
    code = (
        "names = [n for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)]\n"
        "print(*sorted(names), flush=True)\nnotify('READY=1')\nimport select; select.select([], [], [])"
    )
    farm.add(name, python(code), ready="notify")
    assert farm.eventually(lambda: farm.log(name)) == "0 1 2\n"


def test_cpu_limit(farm: Farm) -> None:
    """A child over its CPU time gets SIGXCPU, and that is its reason."""
    farm.add("busy", python("while True: pass"), limits={"cpu": "1s"})
    reason = farm.exited("busy")
    assert reason["reason"] == "signal"
    assert reason["signal"] == "SIGXCPU"
    farm.remove("busy")


def test_file_size_limit(farm: Farm) -> None:
    """A child that writes a file beyond its limit gets SIGXFSZ."""
    target = farm.directory / "big"
    farm.add("writer", shell(f"exec dd if=/dev/zero of={target} bs=64k count=64 2>&1"), limits={"file_size": "1MiB"})
    reason = farm.exited("writer")
    assert reason["signal"] == "SIGXFSZ"
    assert target.stat().st_size == 1 << 20


def test_memory_limit(farm: Farm) -> None:
    """A child over its memory is stopped; `memory` with both figures is the reason in status and why."""
    farm.add(
        "hungry",
        python("held = bytearray(os.urandom(1024)) * (96 << 10)\nimport select; select.select([],[],[])"),
        limits={"memory": "32MiB"},
    )
    reason = farm.exited("hungry")
    assert reason["reason"] == "memory", reason
    entry = farm.entry("hungry")
    assert entry["last_exit"]["reason"] == "memory"
    assert "limit is 32 MiB" in entry["last_exit"]["text"]
    assert "limit is 32 MiB" in farm.why("hungry")
    farm.remove("hungry")


def test_memory_limit_counts_the_whole_child(farm: Farm) -> None:
    """What a child's own children hold counts as well."""
    code = """
import select
if os.fork() == 0:
    held = bytearray(os.urandom(1024)) * (96 << 10)
select.select([], [], [])
"""
    farm.add("parental", python(code), limits={"memory": "48MiB"})
    farm.stream.wait_events(lambda e: e["name"] == "parental" and e["event"] == "unhealthy", timeout_s=3)
    assert farm.exited("parental")["reason"] == "memory"
    farm.remove("parental")


def test_replicas_know_their_index(farm: Farm) -> None:
    """Each replica has its number in its arguments and its environment."""
    farm.config.supervisor("pool")
    farm.config.workers["member"] = {
        "command": shell("echo {index} $REGROW_INDEX $REGROW_NAME; exec tail -f /dev/null"),
        "replicas": 3,
    }
    farm.config.supervisors["pool"]["children"] = ["member"]
    farm.config.supervisors["top"]["children"].append("pool")
    farm.reload()
    farm.call("start", names=["pool"])
    farm.eventually(lambda: [farm.log(f"member.{i}") for i in range(3)], all)
    assert [farm.log(f"member.{i}") for i in range(3)] == [f"{i} {i} member.{i}\n" for i in range(3)]
    assert [entry["name"] for entry in farm.call("status", names=["member"])] == [f"member.{i}" for i in range(3)]
    assert [r["result"] for r in farm.call("stop", names=["member"])] == ["stopped"] * 3
