"""What a command comes to: its output, its end, what it finds around itself, and clear answers to what cannot be."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commanding import WORKER, Desk, desk_of
from configs import Config
from tree import Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc import Backpressure, BadRequest, CallTimeout, CommandResult, Refused


@pytest.fixture(scope="module")
def shared_desk() -> Iterator[Desk]:
    """One tree for the tests of this file."""
    with short_directory() as directory:
        directory.chmod(0o755)
        config = Config(directory)
        with desk_of(Tree(directory, config), config) as made:
            yield made.open(max_parallel=4)


@pytest.fixture
def desk(shared_desk: Desk) -> Iterator[Desk]:
    """The tree, in which the test must have left nothing."""
    yield shared_desk
    shared_desk.settle()


def sh(desk: Desk, script: str, *arguments: str, **options: Any) -> CommandResult:
    """Run a script."""
    return desk.client.run_command(["sh", "-c", script, *arguments], **{"timeout": TIMEOUT_S, **options})


def test_output_and_status(desk: Desk) -> None:
    """Both streams apart, the exit status, and what it took."""
    result = sh(desk, "printf out; printf err >&2; exit 7")
    assert (result.stdout, result.stderr, result.reason, result.code) == (b"out", b"err", "exit", 7)
    assert (result.ok, result.stdout_cut, result.signal, result.argv[0]) == (False, 0, None, "sh")
    assert 0 < result.duration_s < TIMEOUT_S
    assert abs(result.at - time.time()) < TIMEOUT_S


def test_signal(desk: Desk) -> None:
    """A death by a signal has its name."""
    result = sh(desk, "kill -SEGV $$")
    assert (result.reason, result.signal, result.code) == ("signal", "SIGSEGV", None)


def test_input(desk: Desk) -> None:
    """What is fed is read to its end; without input there is nothing to read."""
    fed = os.urandom(3_000_000)
    result = desk.client.run_command(["cat"], input=fed, stdout_limit=len(fed))
    assert (result.stdout == fed, result.stdout_cut) == (True, 0)
    assert desk.client.run_command(["cat"]).stdout == b""


def test_input_that_is_not_read(desk: Desk) -> None:
    """A program that does not read is no reason to wait."""
    assert desk.client.run_command(["true"], input=bytes(3_000_000)).ok
    assert sh(desk, "exec <&-; echo done", input=bytes(3_000_000)).stdout == b"done\n"


def test_flood(desk: Desk) -> None:
    """Of a flood the beginning is kept, and the rest is counted."""
    result = sh(desk, "head -c 300000000 /dev/zero; head -c 5000 /dev/zero >&2", stdout_limit=1000, stderr_limit=0)
    assert (len(result.stdout), result.stdout_cut) == (1000, 299_999_000)
    assert (len(result.stderr), result.stderr_cut) == (0, 5000)


def test_endless_flood(desk: Desk) -> None:
    """`yes` ends at its deadline, and others are not kept waiting by it."""
    with desk.start("yes", timeout=1.5, stdout_limit=10) as flood:
        flood.wait_started()
        assert sh(desk, "echo hello").stdout == b"hello\n"
        result = flood.wait()
    assert (result.reason, result.stdout_cut > 1_000_000) == ("timeout", True)


def test_streaming(desk: Desk) -> None:
    """Lines come while it runs, and it can be talked to."""
    with desk.start("sh", "-c", "while read x; do echo got $x; done; printf end") as command:
        lines = command.lines()
        for word in ("one", "two"):
            command.write(f"{word}\n".encode())
            assert next(lines) == ("stdout", f"got {word}\n".encode())
        command.end_input()
        assert list(lines) == [("stdout", b"end")]
        assert command.wait().ok


def test_slow_reader(desk: Desk) -> None:
    """Who does not read makes the command wait, not the worker; the deadline holds all the same."""
    command = desk.start("yes", timeout=1.0, stdout_limit=1 << 40)
    assert sh(desk, "echo hello").stdout == b"hello\n"
    poll = select.poll()
    command.wait_started()
    assert sh(desk, "true").ok
    poll.register(command, select.POLLIN)
    assert poll.poll(TIMEOUT_S * 1000)
    for _ in command.lines():
        pass
    assert command.wait().reason == "timeout"


def test_surroundings(desk: Desk) -> None:
    """Nothing is inherited: a small environment, an empty directory of its own, its own session, no descriptors."""
    result = sh(desk, "env; echo; pwd; ls -A | wc -l; cut -d' ' -f6 /proc/$$/stat; echo $$; ls /proc/$$/fd; umask")
    environment, _, rest = result.stdout.decode().partition("\n\n")
    names = {line.partition("=")[0] for line in environment.splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LANG", "HOME", "TMPDIR", "REGROW_CHILD"}
    folder, files, session, own, *others = rest.split()
    assert (files, session, others) == ("0", own, ["0", "1", "2", "0022"])
    assert not Path(folder).exists()


def test_variables_and_directory(desk: Desk) -> None:
    """What is asked for is there."""
    result = sh(desk, "echo $A $PATH; pwd", env={"A": "b c", "PATH": "/bin"}, cwd="/usr")
    assert result.stdout == b"b c /bin\n/usr\n"


def test_no_new_privileges(desk: Desk) -> None:
    """A set-user-ID program is no more than any other."""
    folder = desk.config.directory
    program = folder / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    assert program.stat().st_mode & stat.S_ISUID
    result = desk.client.run_command([str(program), "-u"], user="nobody")
    assert result.stdout == b"65534\n"
    assert b"NoNewPrivs:\t1" in desk.client.run_command(["cat", "/proc/self/status"]).stdout


def test_limits(desk: Desk) -> None:
    """A limit that is passed ends the program, and says which it was where that can be told."""
    busy = sh(desk, "while :; do :; done", limits={"cpu": "1s"})
    assert (busy.reason, busy.signal) == ("cpu", "SIGXCPU")
    assert sh(desk, "exec head -c 100000 /dev/zero > x", limits={"file_size": "10KiB"}).signal == "SIGXFSZ"
    hog = desk.client.run_command(["python3", "-c", "bytearray(1 << 30)"], limits={"memory": "200MiB"})
    assert (hog.code, b"MemoryError" in hog.stderr) == (1, True)
    assert sh(desk, "ulimit -n; ulimit -c", limits={"open_files": 99}).stdout == b"99\n0\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["echo", "a\0b"], "NUL"),
        ([], "no program"),
        ([""], "no program"),
        (["./x"], "relative path"),
        (["nonsuch-program"], "there is no program nonsuch-program"),
        ([b"nonsuch-\xff"], r"there is no program nonsuch-\\xff"),
    ],
)
def test_what_is_no_command(desk: Desk, argv: list[str | bytes], said: str) -> None:
    """What cannot be a command is refused, and why; nobody else notices."""
    before = desk.tree.pid(WORKER)
    with pytest.raises(BadRequest, match=said):
        desk.client.run_command(argv)
    assert desk.tree.pid(WORKER) == before


@pytest.mark.parametrize(
    ("argv", "stage", "said"),
    [
        (["/nonsuch/x"], "exec", "No such file"),
        ([b"/nonsuch/\xff"], "exec", r"/nonsuch/\xff: No such file"),
        (["/" + "x" * 5000], "exec", "File name too long"),
        (["/etc/passwd"], "exec", "Permission denied"),
        (["/"], "exec", "Permission denied"),
        (["echo", "x" * 200_000], "exec", "Argument list too long"),
        (["echo", *["y" * 100_000] * 30], "exec", "Argument list too long"),
    ],
)
def test_what_cannot_be_started(desk: Desk, argv: list[str | bytes], stage: str, said: str) -> None:
    """A failure between fork and exec has its stage and the kernel's word for it."""
    result = desk.client.run_command(argv)
    assert (result.reason, result.stage, result.code) == ("start_failed", stage, None)
    assert said in result.text
    assert result.errno > 0


def test_missing_interpreter(desk: Desk) -> None:
    """The interpreter that is missing is named; so is a directory that cannot be entered."""
    script = desk.config.directory / "script"
    script.write_text("#!/nonsuch/python\n")
    script.chmod(0o755)
    assert "(its interpreter /nonsuch/python)" in desk.client.run_command([str(script)]).text
    result = sh(desk, "true", cwd="/nonsuch")
    assert (result.reason, result.text) == ("start_failed", "cannot enter /nonsuch: No such file or directory")


def test_odd_arguments(desk: Desk) -> None:
    """Newlines, nothing, and what is no UTF-8 arrive as they are."""
    odd: list[str | bytes] = ["a\nb", "", b"\xff\xfe", "\udc80", "ü", "x" * 100_000]
    result = desk.client.run_command(["printf", "%s|", *odd])
    assert result.stdout == b"a\nb||\xff\xfe|\x80|" + "ü|".encode() + b"x" * 100_000 + b"|"
    assert result.argv[4:6] == ("\udcff\udcfe", "\udc80")
    assert "\n" not in desk.events("command_started")[-1]


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), None])
def test_timeouts_are_finite(desk: Desk, timeout: Any) -> None:
    """There is no command without an end."""
    with pytest.raises(ValueError, match="finite"):
        desk.client.run_command(["true"], timeout=timeout)
    with pytest.raises(BadRequest, match="max_timeout"):
        desk.client.run_command(["true"], timeout=3601)


def test_shell_is_not_implied(desk: Desk) -> None:
    """A text is no command."""
    with pytest.raises(TypeError, match="no shell"):
        desk.client.run_command("echo hello")


def test_events(desk: Desk) -> None:
    """Each run is two events, which say what, who asked, and how it ended."""
    before = len(desk.events("command_ended"))
    sh(desk, "exit 3", "with 'quotes'")
    desk.tree.wait("command_ended", WORKER, count=before + 1)
    started, ended = desk.events("command_started")[-1], desk.events("command_ended")[-1]
    assert f"(pid {os.getpid()}, uid {os.geteuid()})" in started
    assert "exit 3 after" in ended
    assert "sh -c 'exit 3'" in ended


def test_every_run_is_an_event(desk: Desk) -> None:
    """However fast they come."""
    before = len(desk.events("command_started"))
    for _ in range(30):
        desk.client.run_command(["true"])
    desk.tree.wait("command_ended", WORKER, count=len(desk.events("command_ended")))
    desk.tree.stream.wait_events(lambda event: event["event"] == "command_started", count=before + 30, what="30 more")


def test_queue(desk: Desk) -> None:
    """So many run at once, others wait for their turn, and come in their order."""
    sh(desk, "true")
    held = [desk.start("cat") for _ in range(4)]
    for command in held:
        command.wait_started()
    waiting = [desk.start("sh", "-c", f"echo {number}") for number in range(3)]
    with pytest.raises(CallTimeout):
        desk.client.run_command(["true"], timeout=0.2)
    assert not any(command.pid for command in waiting)
    waiting[1].cancel()
    held[0].end_input()
    assert held[0].wait().ok
    assert [list(waiting[number].lines()) for number in (0, 2)] == [[("stdout", b"0\n")], [("stdout", b"2\n")]]
    assert [waiting[number].wait().ok for number in (0, 2)] == [True, True]
    cancelled = waiting[1].wait()
    assert (cancelled.reason, cancelled.text) == ("cancelled", "before its turn came")
    for command in held[1:]:
        with command:
            pass


def test_backpressure() -> None:
    """Beyond the queue, who asks is told how long it is."""
    with short_directory() as directory:
        config = Config(directory)
        with desk_of(Tree(directory, config), config) as desk:
            desk.open(max_parallel=1, queue=2)
            running = desk.start("cat")
            running.wait_started()
            waiting = [desk.start("true") for _ in range(2)]
            with pytest.raises(Backpressure) as raised:
                desk.client.run_command(["true"])
            assert (raised.value.length, raised.value.limit) == (2, 2)
            with running:
                pass
            assert [command.wait().ok for command in waiting] == [True, True]


def test_requests_of_others(desk: Desk) -> None:
    """An unknown user is refused, and so is one that is asked for by somebody who may not."""
    for user in ("nonsuch", "n\0n", "9" * 5000, "9" * 30):
        shown = user if user.isprintable() else repr(user)
        with pytest.raises(BadRequest, match=f"there is no user {re.escape(shown[:80])}$"):
            desk.client.run_command(["id"], user=user)
    result = desk.client.run_command(["id", "-un"], user="nobody")
    assert result.stdout == b"nobody\n"


def test_interrupted_wait(desk: Desk) -> None:
    """Whatever ends the waiting ends the command."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            desk.client.run_command(["tail", "-f", "/dev/null"])
    finally:
        signal.signal(signal.SIGALRM, handler)
    ended = desk.tree.stream.wait_events(lambda event: event["event"] == "command_ended" and "tail -f" in event["text"])
    assert "cancelled" in ended[-1]["text"]


@pytest.mark.parametrize("word", ["network", "tmp", "root", "processes"])
def test_isolation(desk: Desk, word: str) -> None:
    """Each isolation does what its word says, and nothing else; its own directory stays writable."""
    script = "echo x > own && cat own; ls /tmp | grep -c regrow-; touch /etc/regrow-test"
    outside = sh(desk, "ls /tmp | grep -c regrow-; wc -l < /proc/net/dev", share_processes=True).stdout.split()
    result = sh(desk, script, isolate=[word])
    Path("/etc/regrow-test").unlink(missing_ok=True)
    lines = result.stdout.decode().split("\n")
    assert lines[0] == "x", result
    assert (int(lines[1]) == 1) == (word == "tmp" or outside[0] == b"1")  # the way to its own directory
    assert (b"Read-only file system" in result.stderr) == (word == "root")
    devices = int(sh(desk, "wc -l < /proc/net/dev", isolate=[word]).stdout)
    assert (devices == 3) == (word == "network" or int(outside[1]) == 3)


def test_isolated_network_talks_to_itself(desk: Desk) -> None:
    """There is a loopback, and nothing else."""
    script = (
        "import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname())\n"
        "try: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError as error: print(error.errno)"
    )
    result = desk.client.run_command(["python3", "-c", script], isolate=["network"])
    assert result.stdout == b"101\n", result  # ENETUNREACH


def test_isolation_cannot_be_undone(desk: Desk) -> None:
    """Root in there has not the rights to mount, or to make devices."""
    script = "mount -o remount,rw / ; mknod x b 1 1; umount /tmp; grep CapEff /proc/self/status"
    result = sh(desk, script, isolate=["root"])
    assert int(result.stdout.split()[-1], 16) & (1 << 21 | 1 << 27) == 0
    assert len(result.stderr.splitlines()) >= 3


@pytest.mark.parametrize("shared", [False, True])
def test_settings_of_the_machine_are_read_only(desk: Desk, shared: bool) -> None:
    """With a read-only root so is /proc, where a program that is run for every crash and other settings are written."""
    files = ("sys/kernel/core_pattern", "sys/kernel/hostname", "self/oom_score_adj")
    script = "".join(f"(: >> /proc/{file}) && echo {file};" for file in files)  # opened, and nothing is written
    result = sh(desk, script, isolate=["root"], share_processes=shared)
    assert result.stdout == b"", result
    assert result.stderr.count(b"Read-only file system") == len(files)


@pytest.mark.skipif(not os.path.exists("/proc/self/autogroup"), reason="this kernel has no autogroups")
@pytest.mark.parametrize("words", [[], ["root"], ["network", "tmp", "root"]])
def test_sessions_are_lowered_in_isolation_too(desk: Desk, words: list[str]) -> None:
    """Who makes sessions has less of the processors for each, however it is isolated."""
    makes = "for i in 1 2 3 4; do setsid tail -f /dev/null & done"
    script = f"{makes}; until grep -q 'nice [1-9]' /proc/self/autogroup; do :; done"
    assert sh(desk, script, isolate=words).reason == "exit"


@pytest.mark.parametrize("words", [[], ["root"], ["processes", "network", "tmp", "root"]])
@pytest.mark.parametrize("user", [None, "games"])
def test_first_to_go_when_memory_is_short(desk: Desk, words: list[str], user: str | None) -> None:
    """The kernel ends a command, with all that it starts, before those who asked for it."""
    result = sh(desk, "cat /proc/self/oom_score_adj; cat /proc/self/comm", isolate=words, user=user)
    assert result.stdout == b"1000\ncat\n", result
    worker = desk.tree.pid(WORKER)
    assert Path(f"/proc/{worker}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()


def test_processes(desk: Desk) -> None:
    """A command sees no processes but its own, unless it is to share them."""
    listed = "set -- /proc/[0-9]*; echo $#; readlink /proc/self/ns/pid"
    (count, own), (others, shared) = (
        sh(desk, listed, share_processes=shares).stdout.decode().split() for shares in (False, True)
    )
    assert count == "2"  # the runner and the shell
    assert int(others) > 2
    assert own != os.readlink("/proc/self/ns/pid") == shared
    with pytest.raises(BadRequest, match="both isolate and share"):
        sh(desk, "true", share_processes=True, isolate=["processes"])
    with pytest.raises(BadRequest, match="cannot isolate moon"):
        sh(desk, "true", isolate=["moon"])


def test_directory_that_cannot_be_removed(desk: Desk) -> None:
    """Somebody is told of it: with shared processes, what a command of root has mounted is mounted for all."""
    result = sh(desk, "mkdir m && mount -t tmpfs none m && pwd", share_processes=True)
    folder = Path(result.stdout.decode().strip())
    try:
        if result.ok:
            assert f"{folder} cannot be removed" in desk.tree.wait("command_left", WORKER)["text"]
    finally:
        if result.ok:
            subprocess.run(["umount", folder / "m"], check=True)
            shutil.rmtree(folder)


def test_limit_that_cannot_be_had(desk: Desk) -> None:
    """A limit is held or refused, never forgotten."""
    with pytest.raises(Refused, match="cannot limit root to 10 processes here") as raised:
        sh(desk, "true", limits={"processes": 10})
    assert raised.value.code == "unavailable"
    limits = sh(desk, "grep 'Max processes' /proc/self/limits", limits={"processes": 300}, user="nobody").stdout
    assert limits.split()[2:4] == [b"300", b"300"]
