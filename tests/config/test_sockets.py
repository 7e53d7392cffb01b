"""The [socket.X] tables: what they become, and every mistake in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trees import plan, problems

from regrow.config.errors import ConfigErrors
from regrow.config.load import worker_spec
from regrow.config.sockets import MOST_SOCKETS, overlap
from regrow.config.spec import DaemonSpec, Output, OutputKind, SocketSpec, Strategy, SupervisorSpec

W = '[supervisor.app]\nchildren = ["w"]\n[worker.w]\ncommand = ["true"]\nsockets = ["web"]\n'  # lines 1 to 5
S = f"{W}[socket.web]\n"  # the socket's keys begin in line 7

# text, line, key path, part of what is said, part of the hint, code
MISTAKES = {
    "no address": (S, 6, "socket.web", "not where to listen", "tcp, unix", "missing_key"),
    "two addresses": (f"{S}tcp = 80\nunix = '/a'\n", 6, "socket.web", "tcp and unix exclude", "", "bad_combination"),
    "port 0": (f"{S}tcp = 0\n", 7, "socket.web.tcp", "no such port: 0", "", "invalid_tcp"),
    "port too high": (f"{S}tcp = 70000\n", 7, "socket.web.tcp", "no such port", "", "invalid_tcp"),
    "no port": (f"{S}tcp = 'localhost'\n", 7, "socket.web.tcp", "HOST:PORT", "", "invalid_tcp"),
    "long path": (f"{S}unix = '/{'x' * 107}'\n", 7, "socket.web.unix", "at most 107 bytes", "", "invalid_unix"),
    "path too long with its folder": (f"{S}unix = '{'x' * 107}'\n", 7, "socket.web.unix", "at most 107 bytes", "", "invalid_unix"),
    "the daemon's own path": (f"{S}unix = '{{run_dir}}/control.sock'\n", 7, "socket.web.unix", "the daemon's own", "another", "invalid_unix"),
    "mode of a port": (f"{S}tcp = 80\nmode = '0600'\n", 8, "socket.web.mode", "have a file", "", "bad_combination"),
    "user of an abstract one": (f"{S}unix = '@web'\nuser = 0\n", 8, "socket.web.user", "have a file", "", "bad_combination"),
    "mode as a number": (f"{S}unix = '/a'\nmode = 600\n", 8, "socket.web.mode", "octal digits", "", "invalid_mode"),
    "unknown user": (f"{S}unix = '/a'\nuser = 'nobdy'\n", 8, "socket.web.user", "no user nobdy", "`nobody`", "invalid_user"),
    "backlog": (f"{S}tcp = 80\nbacklog = 0\n", 8, "socket.web.backlog", "from 1", "", "invalid_backlog"),
    "unknown key": (f"{S}tpc = 80\ntcp = 80\n", 7, "socket.web.tpc", "unknown key", "`tcp`", "unknown_key"),
    "unknown socket": (f"{W}[socket.wbe]\ntcp = 80\n", 5, "worker.w.sockets[0]", "no socket `web`", "`wbe`", "unknown_socket"),
    "no socket at all": (W, 5, "worker.w.sockets[0]", "no socket `web`", "[socket.web]", "unknown_socket"),
    "socket for nobody": (f"{S}tcp = 80\n[socket.api]\ntcp = 81\n", 8, "socket.api", "no worker gets it", "sockets = [", "unused"),
    "bad name": (f'{S}tcp = 80\n[socket."Web"]\ntcp = 81\n'.replace('"web"]', '"web", "Web"]'), 8, "socket.Web", "small letters", "", "invalid_name"),
    "systemd's word": (f"{W.replace('web', 'stored')}[socket.stored]\ntcp = 80\n", 6, "socket.stored", "systemd", "another", "invalid_name"),
    "same address": (f"{S}tcp = 80\n[socket.web2]\ntcp = '127.0.0.1:80'\n".replace('["web"]', '["web", "web2"]'), 8, "socket.web2", "[socket.web] listens already", "", "duplicate_address"),
    "listed twice": (f"{S}tcp = 80\n".replace('["web"]', '["web", "web"]'), 5, "worker.w.sockets[1]", "listed twice", "", "invalid_sockets"),
    "no list": (f"{S}tcp = 80\n".replace('["web"]', '"web"'), 5, "worker.w.sockets", "must be an array", '["web"]', "invalid_sockets"),
    "probe of what the daemon holds": (f"{W}ready = {{ tcp = 80 }}\n[socket.web]\ntcp = '*:80'\n", 6, "worker.w.ready.tcp", "the daemon itself listens there", "http", "bad_combination"),
    "liveness likewise": (f"{W}liveness = {{ unix = '/s' }}\n[socket.web]\nunix = '/s'\n", 6, "worker.w.liveness.unix", "[socket.web]", "exec", "bad_combination"),
    "variable": (f"{S}tcp = 80\n[worker.w.env]\nLISTEN_FDS = '1'\n", 9, "worker.w.env.LISTEN_FDS", "set by regrow", "", "invalid_env"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(tmp_path: Path, case: str) -> None:
    """Each is told with its line, key path, hint and code."""
    text, line, key, said, hint, code = MISTAKES[case]
    found = problems(tmp_path, text)
    (problem,) = (one for one in found if (one.line, one.key, one.code) == (line, key, code))
    assert said in problem.problem
    assert hint in problem.hint
    assert len(found) == (2 if case == "bad name" else 1), found


def test_plan(tmp_path: Path) -> None:
    """Addresses are resolved, paths are absolute, defaults are systemd's; the worker knows its sockets by name."""
    text = W.replace('["web"]', '["web", "api", "six", "file", "none"]')
    text += "[socket.web]\ntcp = 8000\n[socket.api]\ntcp = '*:8001'\nbacklog = 7\n[socket.six]\ntcp = '[0:0::1]:8000'\n"
    text += f"[socket.file]\nunix = 'run/{{name}}.sock'\nmode = '0600'\ngroup = {os.getegid()}\n"
    text += "[socket.none]\nunix = '@x'\n"
    made = plan(tmp_path, text)
    assert made.sockets == (
        SocketSpec("web", "127.0.0.1", 8000),
        SocketSpec("api", "0.0.0.0", 8001, backlog=7),
        SocketSpec("six", "::1", 8000),
        SocketSpec("file", path=f"{tmp_path}/run/file.sock", mode=0o600, gid=os.getegid()),
        SocketSpec("none", path="@x"),
    )
    assert [spec.address for spec in made.sockets][:3] == ["127.0.0.1:8000", "0.0.0.0:8001", "[::1]:8000"]
    (worker,) = made.root.children
    assert worker.sockets == ("web", "api", "six", "file", "none")  # type: ignore[union-attr]


def test_start_child_knows_the_sockets() -> None:
    """The spec of a child that comes at run time may name sockets of the file, and no others."""
    daemon = DaemonSpec("d", "/run/d", "/s", "/l")
    above = SupervisorSpec("pool", strategy=Strategy.DYNAMIC, base_dir="/")
    raw = {"id": "w", "command": ["true"], "sockets": ["web"]}
    sockets = (SocketSpec("web", "127.0.0.1", 80),)
    assert worker_spec(raw, supervisor=above, daemon=daemon, sockets=sockets).sockets == ("web",)
    with pytest.raises(ConfigErrors, match="no socket `web`"):
        worker_spec(raw, supervisor=above, daemon=daemon)


def test_socket_for_children_to_come(tmp_path: Path) -> None:
    """Where children come at run time, a socket that nobody has yet is no mistake."""
    text = "[supervisor.pool]\nstrategy = 'dynamic'\n[socket.web]\ntcp = 80\n"
    assert plan(tmp_path, text).sockets


def test_too_many(tmp_path: Path) -> None:
    """There is a limit, and it is told at the first one above it."""
    names = [f"s{number}" for number in range(MOST_SOCKETS + 1)]
    text = W.replace('["web"]', str(names)) + "".join(f"[socket.{name}]\nunix = '@{name}'\n" for name in names)
    (found,) = problems(tmp_path, text)
    assert (found.key, found.code) == (f"socket.s{MOST_SOCKETS}", "invalid_socket")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("127.0.0.1", "0.0.0.0", False),
        ("::1", "0.0.0.0", True),
        ("::1", "::", False),
        ("0.0.0.0", "::", False),
    ],
)
def test_overlap(one: str, other: str, *, both: bool) -> None:
    """What can listen on one port at the same time; `::` takes IPv4 in."""
    specs = SocketSpec("a", one, 80), SocketSpec("b", other, 80)
    assert overlap(*specs) is not both
    assert overlap(*reversed(specs)) is not both
    assert not overlap(specs[0], SocketSpec("b", other, 81))


def test_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`journal` on a host without one is told before anything starts, unless the host is not looked at."""
    monkeypatch.setattr("regrow.config.context.JOURNAL", str(tmp_path / "nowhere"))
    text = '[supervisor.app]\nchildren = ["w"]\n[worker.w]\ncommand = ["true"]\nstderr = "journal"\n'
    (found,) = problems(tmp_path, text)
    assert (found.key, found.line) == ("worker.w.stderr", 5)
    assert "there is no journal on this host" in found.problem
    (worker,) = plan(tmp_path, text, check_system=False).root.children
    assert worker.stderr == Output(OutputKind.JOURNAL)  # type: ignore[union-attr]


def test_no_room(tmp_path: Path) -> None:
    """More sockets than the worker may have open are told before it starts."""
    names = [f"s{number}" for number in range(14)]
    text = W.replace('["web"]', str(names)) + "limits = { open_files = 16 }\n"
    text += "".join(f"[socket.{name}]\nunix = '@{name}'\n" for name in names)
    (found,) = problems(tmp_path, text)
    assert (found.key, found.line, found.code) == ("worker.w.sockets", 5, "bad_combination")
    assert not problems(tmp_path, text.replace("= 16", "= 17"))
    assert not problems(tmp_path, text.replace("= 16", "= 'unlimited'"))
