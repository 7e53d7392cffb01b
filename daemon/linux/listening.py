"""
Listening sockets: made, bound to an address, known by what they listen at.

To make one and to listen touches nothing but the kernel; to bind one to a path touches the disk, which is why it is
apart: a process of its own may do it, for a binding belongs to the socket, not to who has made it.

Source: socket(7), ip(7), ipv6(7), unix(7), bind(2), listen(2).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat

from regrow.config.spec import SocketSpec


def make(spec: SocketSpec) -> int:
    """
    Return a new socket for `spec`, close-on-exec, bound to nothing.

    Raises:
        OSError: no descriptors, or no such family here.
    """
    family = socket.AF_UNIX if spec.path else socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    if family != socket.AF_UNIX:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if spec.host == "::":
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever the machine's default is
    return made.detach()


def bind(fd: int, spec: SocketSpec) -> tuple[int, int] | None:
    """
    Bind the socket to its address. A path that nobody listens at any more is taken over.

    Returns:
        What its path is, as (device, inode); None where it has no file.
    Raises:
        OSError: the address is in use, is not of this host, may not be used.
    """
    with socket.socket(fileno=os.dup(fd)) as listener:
        if not spec.path:
            listener.bind((spec.host, spec.port))
            return None
        if not spec.has_file:
            listener.bind("\0" + spec.path[1:])
            return None
        if _is_left_over(spec.path):
            os.unlink(spec.path)
        listener.bind(spec.path)
    settle(spec)
    return file_of(spec.path)


def settle(spec: SocketSpec) -> None:
    """
    Give the path its owner and permissions.

    Raises:
        OSError: it cannot have them; it is not there.
    """
    if not spec.has_file:
        return
    if spec.uid is not None or spec.gid is not None:
        os.chown(spec.path, -1 if spec.uid is None else spec.uid, -1 if spec.gid is None else spec.gid)
    os.chmod(spec.path, spec.mode)


def listen(fd: int, backlog: int) -> None:
    """
    Let connections come, at most `backlog` before they are accepted; may be said again with another number.

    Raises:
        OSError: another socket has begun to listen at that port meanwhile.
    """
    with socket.socket(fileno=os.dup(fd)) as listener:
        listener.listen(backlog)


def file_of(path: str) -> tuple[int, int] | None:
    """The socket at a path, as (device, inode); None when none is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def remove(path: str, file: tuple[int, int] | None) -> None:
    """Remove the path, if it is still that of this socket."""
    if file is not None and file_of(path) == file:
        try:
            os.unlink(path)
        except OSError:
            pass  # who comes next finds that nobody listens there


def address_of(fd: int) -> str:
    """Where a socket listens, in the words of `SocketSpec.address`; empty if it is no listening stream socket."""
    try:
        with socket.socket(fileno=os.dup(fd)) as found:
            if found.type != socket.SOCK_STREAM or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return ""
            name = found.getsockname()
            if found.family == socket.AF_UNIX:
                return _path(name)
            if found.family in (socket.AF_INET, socket.AF_INET6):
                host = str(ipaddress.ip_address(name[0]))
                return SocketSpec("", host=host, port=name[1]).address
    except OSError:
        pass  # closed, or no socket
    return ""


def _path(name: str | bytes) -> str:
    if isinstance(name, bytes):  # an abstract one
        return "@" + os.fsdecode(name[1:])
    return name


def _is_left_over(path: str) -> bool:
    """Whether a socket is there at which nobody listens."""
    if file_of(path) is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False
