"""
CURVE keys: the hub's own pair, and one for each client that may come over TCP.

Files are ZeroMQ certificates (`zmq.auth`), readable by their owner only. `<state_dir>/keys/hub.key_secret` is the hub's
pair; `<state_dir>/keys/clients/NAME.key` holds a client's public key and nothing else: whose file is there may come.
The client's own file is made once, for whoever shall be that client, and not kept here: besides the pair it holds
the hub's public key, so that the client, in turn, talks to no other.

Source: zmq_curve(7), rfc.zeromq.org/spec/26 (CurveZMQ).
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import zmq
import zmq.auth

KEYS, CLIENTS = "keys", "clients"
SERVER_FILE = "hub.key_secret"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}").fullmatch
_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}").fullmatch
_SERVER_KEY = re.compile(rb'^\s*server-key\s*=\s*"([^"\n]*)"', re.MULTILINE).search

_TEXT = """\
#   regrow: {what}
{advice}
metadata
    name = "{name}"
{server}curve
    public-key = "{public}"
{secret}"""


class KeyFileError(Exception):
    """A key cannot be made, read or used; the text says which and why."""


class Pair(NamedTuple):
    """A key pair, each of 40 characters of Z85."""

    public: bytes
    secret: bytes


class ClientKey(NamedTuple):
    """What a remote client needs: its own pair, and the key by which it knows the hub."""

    public: bytes
    secret: bytes
    server: bytes


def server_pair(state_dir: str) -> Pair:
    """
    The hub's pair; it is made when there is none yet.

    Raises:
        KeyFileError, OSError.
    """
    path = os.path.join(_folder(state_dir), SERVER_FILE)
    try:
        return _read_pair(path)
    except FileNotFoundError:
        pass
    pair = _new_pair()
    text = _TEXT.format(
        what="the hub's own keys",
        advice="#   Whoever has this file can pretend to be this daemon.\n",
        name="hub",
        server="",
        public=pair.public.decode(),
        secret=f'    secret-key = "{pair.secret.decode()}"\n',
    )
    try:
        _create(path, text)
    except FileExistsError:
        return _read_pair(path)  # somebody else made it meanwhile
    return pair


def add_client(state_dir: str, name: str, path: str) -> ClientKey:
    """
    Admit a client: its public key is kept, and its own file written to `path`, for the remote user alone.

    Raises:
        KeyFileError: there is such a client already, or no client can have that name. OSError.
    """
    _check_name(name)
    hub = server_pair(state_dir)
    pair = _new_pair()
    kept = _TEXT.format(
        what=f"client {name} may connect to the hub",
        advice="#   Remove this file, or say `regrow keys remove`, and it may not.\n",
        name=name, server="", public=pair.public.decode(), secret="",
    )  # fmt: skip
    given = _TEXT.format(
        what=f"the keys of client {name}",
        advice="#   Whoever has this file is this client to the daemon: keep it secret, and nowhere twice.\n",
        name=name,
        server=f'    server-key = "{hub.public.decode()}"\n',
        public=pair.public.decode(),
        secret=f'    secret-key = "{pair.secret.decode()}"\n',
    )
    admitted = _client_path(state_dir, name)
    try:
        _create(admitted, kept)
    except FileExistsError:
        raise KeyFileError(f"there is a client {name} already: {admitted}") from None
    try:
        _create(path, given)
    except OSError as error:
        os.unlink(admitted)
        if isinstance(error, FileExistsError):
            raise KeyFileError(f"cannot write the keys of {name}: there is a file {path} already") from None
        raise
    return ClientKey(pair.public, pair.secret, hub.public)


def remove_client(state_dir: str, name: str) -> bool:
    """Admit this client no longer; False when it was none. Who is connected stays so until the hub's `SIGHUP`."""
    _check_name(name)
    try:
        os.unlink(_client_path(state_dir, name))
    except FileNotFoundError:
        return False
    return True


def list_clients(state_dir: str) -> dict[str, bytes]:
    """
    The public key of each client that is admitted, by name; a file that holds none is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    found: dict[str, bytes] = {}
    folder = os.path.join(state_dir, KEYS, CLIENTS)
    try:
        files = sorted(os.listdir(folder))
    except FileNotFoundError:
        return found
    for file in files:
        name, dot, ending = file.rpartition(".")
        if not dot or ending != "key" or not _NAME(name):
            continue
        try:
            found[name] = _read(os.path.join(folder, file))[0]
        except (KeyFileError, FileNotFoundError):
            continue
    return found


def read_client_key(path: str) -> ClientKey:
    """
    The keys that `add_client` wrote for a remote user.

    Raises:
        KeyFileError, OSError.
    """
    public, secret = _read(path)
    with open(path, "rb") as file:
        server = _SERVER_KEY(file.read())
    if secret is None or server is None or _KEY(server[1]) is None:
        raise KeyFileError(f"cannot use {path}: it is not what `regrow keys add` made for a client")
    return ClientKey(public, secret, server[1])


def _folder(state_dir: str) -> str:
    folder = os.path.join(state_dir, KEYS)
    for path in (state_dir, folder, os.path.join(folder, CLIENTS)):
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
    return folder


def _client_path(state_dir: str, name: str) -> str:
    return os.path.join(_folder(state_dir), CLIENTS, f"{name}.key")


def _check_name(name: str) -> None:
    if _NAME(name) is None:
        raise KeyFileError(f"{name!r} is no name for a client: letters, digits, `_`, `-` and `.`, 64 at most")


def _new_pair() -> Pair:
    return Pair(*zmq.curve_keypair())


def _create(path: str, text: str) -> None:
    """Write a file that was not there, whole or not at all, for its owner alone."""
    unfinished = f"{path}.{os.getpid()}.new"
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            with open(fd, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = path  # of a descriptor, none is known
            raise
        os.link(unfinished, path)  # fails when there is one; a rename would replace it
    finally:
        os.unlink(unfinished)


def _read_pair(path: str) -> Pair:
    public, secret = _read(path)
    if secret is None:
        raise KeyFileError(f"cannot use {path}: it holds no secret key")
    return Pair(public, secret)


def _read(path: str) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        # zmq.auth says so without an errno when the file is not there.
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no {path}") from error
        raise
    except (ValueError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot use {path}: {error}") from None
    if _KEY(public) is None or (secret is not None and _KEY(secret) is None):
        raise KeyFileError(f"cannot use {path}: its key is not 40 characters of Z85")
    return public, secret
