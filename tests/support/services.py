"""A tree as a service of the booted systemd, for the tests of the units."""

from __future__ import annotations

import json
import re

from booted import SHARE, Machine

SAYS = f"echo here $REGROW_NAME > {SHARE}/bell"
HOLDS = f"{SAYS}; exec cat {SHARE}/hold"
TAKES_LEAVE = f"trap 'echo bye $REGROW_NAME > {SHARE}/bell; exit 0' TERM; {SAYS}; cat {SHARE}/hold & wait"

DROP_IN = f"""[Service]
RestartSec=50ms
ExecStopPost=/bin/sh -c 'echo ended %i $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS > {SHARE}/bell'
"""


def worker(name: str, script: str = HOLDS, more: str = "") -> str:
    """The table of a worker that runs a script."""
    return f"[worker.{name}]\ncommand = {json.dumps(['/bin/sh', '-c', script])}\n{more}\n"


class Tree:
    """One instance of the unit; its file is in the shared directory."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name, self.unit = machine, name, f"regrow@{name}"
        self.file = machine.share / f"{name}.toml"
        self._drop_ins: list[str] = []

    def install(self, *workers: str, top: str = "", drop_in: str = "", options: tuple[str, ...] = ()) -> str:
        """Write the file with these workers, and have the service installed. Returns what that said."""
        self.write(*workers, top=top)
        said = self.machine.regrow("systemd", "install", *options, f"{SHARE}/{self.file.name}")
        folder = f"/etc/systemd/system/{self.unit}.service.d"
        self.machine.do("mkdir", "-p", folder)
        self._drop_ins.append(folder)
        self.machine.do("sh", "-c", 'printf %s "$0" > "$1"', DROP_IN + drop_in, f"{folder}/test.conf")
        self.machine.systemctl("daemon-reload")
        return said

    def write(self, *workers: str, top: str = "") -> None:
        names = json.dumps(re.findall(r"^\[worker\.(\w+)\]", "".join(workers), re.MULTILINE))
        self.file.write_text(f"{top}[supervisor.top]\nchildren = {names}\n{''.join(workers)}")

    def places(self) -> str:
        """The table [daemon] with those that the unit makes for this instance."""
        folders = (("run_dir", "/run"), ("state_dir", "/var/lib"), ("log_dir", "/var/log"))
        return "[daemon]\n" + "".join(f'{key} = "{place}/regrow/{self.name}"\n' for key, place in folders)

    def start(self) -> None:
        """Start it; returns when systemd says that it is active."""
        done = self.machine.run("systemctl", "start", self.unit)
        assert done.returncode == 0, self.machine.journal(self.unit)
        assert self.state() == ("active", "running")

    def state(self) -> tuple[str, str]:
        return self.show("ActiveState"), self.show("SubState")

    def show(self, name: str) -> str:
        return self.machine.show(self.unit, name)

    def pids(self) -> list[int]:
        """All of its processes, as we see them."""
        return self.machine.unit_group(self.unit).pids()

    def child(self, name: str) -> dict[str, object]:
        """What `regrow status` says of a child."""
        found = json.loads(self.machine.regrow("status", "--name", self.name, "--format", "json", name))
        assert isinstance(found[0], dict)
        return found[0]

    def pid_of(self, name: str) -> int:
        """Of a child, as we see it."""
        return self.machine.outside(int(str(self.child(name)["pid"])))

    def remove(self) -> None:
        self.machine.run("systemctl", "stop", f"{self.unit}.*.socket", self.unit)
        self.machine.run("systemctl", "reset-failed", self.unit)
        for folder in self._drop_ins:
            self.machine.do("rm", "-r", folder)
        self.machine.regrow("systemd", "uninstall", self.name)
