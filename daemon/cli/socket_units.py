"""
The .socket units of a tree: systemd listens where the file says, before the tree is started, and starts it when
somebody comes.

One unit for each [socket.X], because owner, permissions and backlog are those of a unit.

Source: systemd.socket(5), systemd.unit(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from regrow.config.spec import Plan, SocketSpec
from regrow.daemon.cli import units
from regrow.daemon.cli.report import Failed
from regrow.daemon.cli.units import SIGN, Site


def name(instance: str, socket: str) -> str:
    """Of the unit. What follows the last dot is the socket, in whose name there is none."""
    return f"{instance}.{socket}.socket"


def wanted(site: Site, link: Path, plan: Plan) -> dict[Path, str]:
    """
    The units that a tree needs, and their texts.

    Raises:
        Failed: it has no sockets, or one where systemd cannot keep it.
    """
    instance = units.instance(link)
    if not plan.sockets:
        raise Failed(f"cannot write units for the sockets of {instance}: its file has no [socket.NAME]")
    for spec in plan.sockets:
        if spec.path.startswith(f"{plan.daemon.run_dir}/"):
            raise Failed(
                f"cannot write a unit for the socket {spec.name}: systemd removes {plan.daemon.run_dir} with the "
                "service, and would go on to listen where nobody finds it; put it elsewhere"
            )
    return {site.unit.parent / name(instance, spec.name): text(instance, spec) for spec in plan.sockets}


def text(instance: str, spec: SocketSpec) -> str:
    """The unit of one socket."""
    lines = [
        f"{SIGN} --sockets`, which writes it anew from the file of the tree.",
        "[Unit]",
        f"Description=regrow: the socket {spec.name} of the tree {instance.partition('@')[2]}",
        "",
        "[Socket]",
        f"ListenStream={_quoted(spec.address)}",
        f"FileDescriptorName={spec.name}",
        f"Service={instance}.service",
        f"Backlog={spec.backlog}",
    ]
    if spec.host == "::":
        lines.append("BindIPv6Only=both")
    if spec.has_file:
        lines += [f"SocketMode={spec.mode:04o}", "RemoveOnStop=yes"]
        lines += [f"SocketUser={spec.uid}"] if spec.uid is not None else []
        lines += [f"SocketGroup={spec.gid}"] if spec.gid is not None else []
    lines += ["", "[Install]", f"WantedBy=sockets.target {instance}.service", ""]
    return "\n".join(lines)


def there(site: Site, link: Path) -> set[Path]:
    """The units that have been written for a tree."""
    own = f"{units.instance(link)}."
    found = (path for path in site.unit.parent.glob(f"{own}*.socket") if "." not in path.stem.removeprefix(own))
    return {path for path in found if path.read_text(errors="replace").startswith(SIGN)}


def remove(site: Site, paths: Iterable[Path]) -> list[Path]:
    """
    Disable and take away these units; those that were there.

    Raises:
        Failed: one of them listens; OSError.
    """
    found = sorted(paths)
    for path in found:
        if units.runs(site, path.name):
            stop = " ".join([*site.systemctl, "disable --now", path.name])
            raise Failed(f"cannot remove {path.name}: it listens; stop it first: `{stop}`")
    for path in found if not site.dry else ():
        units.disable(site, path)
        path.unlink()
    return found


def _quoted(address: str) -> str:
    return address.replace("%", "%%")
