"""
What the store holds as JSON: a list with one object a line, and the store again from such a list, without a difference.

The first object says what the list is. Each of the others is one row:

    {"owner": "counter", "key": "total", "value": 3}       of the state of an agent or a group
    {"box": "counter", "ordinal": 65536, "post": {…}}      a post that waits
    {"dead": 1, "letter": {…}}                             a dead letter
    {"row": ["dHc…", "lZ…"]}                               anything else among the messages, such as timers

Keys and values are as in `taggedjson`. Of one owner there is nothing but its state.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec
from msgspec import Raw, Struct

from regrow.ipc import deadletters, owners, posts
from regrow.ipc.deadletters import DEAD, DeadLetter
from regrow.ipc.posts import WAITING, Failure, Post
from regrow.ipc.statekeys import STORE_KEY_BYTES
from regrow.ipc.store import Store, Txn
from regrow.ipc.taggedjson import BadJson, key_from_json, key_to_json, parse, value_from_json, value_to_json

LEVEL = 1
"""The level of this form; whoever reads one refuses a newer one."""

_ORDINAL_BYTES = 8


class Dump(Struct, frozen=True, kw_only=True):
    """The first object. `owner` is None for a whole store; `at` is in seconds since the epoch."""

    regrow: str = "state"
    level: int = LEVEL
    daemon: str
    owner: str | None
    at: float


def dump(txn: Txn, store: Store, head: Dump) -> Iterator[dict[str, Any]]:
    """Everything that `head` is about, in the order of the store, with the head."""
    yield msgspec.to_builtins(head)
    if head.owner is not None:
        for row, value in owners.rows(txn, store.state, head.owner):
            yield {"owner": head.owner, "key": key_to_json(row), "value": value_to_json(value)}
        return
    for key, value in _all(txn, store.state):
        owner, _, row = key.partition(b"\0")
        yield {"owner": owner.decode(), "key": key_to_json(row), "value": value_to_json(value)}
    for key, value in _all(txn, store.messages):
        yield _message(key, value)


def lines(facts: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """As one JSON list, an object a line."""
    before = b"["
    for fact in facts:
        yield before + msgspec.json.encode(fact)
        before = b",\n "
    yield b"]\n"


class Reader:
    """
    A list of that form, read as often as is needed.

    Args:
        file: can be read again from its beginning.
    Raises:
        BadJson: it is none, or of a newer level.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._whole: list[Any] | None = None
        if not self._is_by_lines():
            self._whole = self._read_whole()
        found = next(self._objects(), None)
        try:
            self.head = msgspec.convert(found, Dump)
        except msgspec.ValidationError as error:
            raise BadJson(f"it does not begin as what `regrow state export` writes: {error}") from None
        if self.head.regrow != "state" or self.head.level > LEVEL:
            found = f"{self.head.regrow!r} of level {self.head.level}"
            raise BadJson(f"it is {found}; this regrow reads 'state' up to level {LEVEL}")

    def rows(self, store: Store) -> Iterator[tuple[Any, bytes, bytes]]:
        """
        The rows: each with the database that it belongs to.

        Raises:
            BadJson: says which object is none.
        """
        for number, fact in enumerate(self._objects(), 1):
            if number == 1:
                continue
            try:
                db, key, value = self._row(store, fact)
                if not 0 < len(key) <= STORE_KEY_BYTES:
                    raise BadJson(f"its key would have {len(key)} bytes, {STORE_KEY_BYTES} are the limit")
                yield db, key, value
            except (BadJson, KeyError, TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
                what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise BadJson(f"object {number} is no row: {what}") from None

    def _row(self, store: Store, fact: Any) -> tuple[Any, bytes, bytes]:
        match fact:
            case {"owner": str(owner), "key": key, "value": value}:
                if self.head.owner is not None and owner != self.head.owner:
                    raise BadJson(f"it belongs to {owner!r}, and the list is about {self.head.owner!r}")
                return store.state, _named(owner) + key_from_json(key), value_from_json(value)
            case {"box": str(box), "ordinal": int(ordinal), "post": dict(post)}:
                key = WAITING + _named(box) + ordinal.to_bytes(_ORDINAL_BYTES, "big")
                return store.messages, key, _kept(box, _post_from(post))
            case {"dead": int(number), "letter": dict(letter)}:
                made = deadletters.encode(DeadLetter(**{**letter, "post": _post_from(letter["post"])}))
                deadletters.decode(made)  # whatever types JSON had
                return store.messages, deadletters.key_of(number), made
            case {"row": [str(key), str(value)]}:
                return store.messages, base64.b64decode(key, validate=True), base64.b64decode(value, validate=True)
        raise BadJson("it is none of a key, a post, a dead letter and a row")

    def _objects(self) -> Iterator[Any]:
        if self._whole is not None:
            yield from self._whole
            return
        self._file.seek(0)
        end = b","
        for number, line in enumerate(self._file, 1):
            if not (bare := line.strip()):
                continue
            text = _of_line(bare)
            if end == b"]" or (text and end != b","):
                behind = "the end of the list" if end == b"]" else "an object without a comma"
                raise BadJson(f"line {number} comes behind {behind}")
            if text:
                try:
                    yield parse(text)
                except BadJson as error:
                    raise BadJson(f"line {number} is no JSON: {error}") from None
            end = b"," if bare == b"[" else bare[-1:]
        if end != b"]":
            raise BadJson("it was cut off: the list has no end")

    def _is_by_lines(self) -> bool:
        """Whether it still has an object a line, and need not be read at once."""
        self._file.seek(0)
        try:
            return isinstance(parse(_of_line(self._file.readline())), dict)
        except BadJson:
            return False

    def _read_whole(self) -> list[Any]:
        self._file.seek(0)
        try:
            found = parse(self._file.read())
        except BadJson as error:
            raise BadJson(f"it is no JSON list: {error}") from None
        if not isinstance(found, list):
            raise BadJson("it is no JSON list")
        return found


def _all(txn: Txn, db: Any) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor(db=db) as cursor:
        yield from cursor.iternext()


def _message(key: bytes, value: bytes) -> dict[str, Any]:
    """A row of the messages, in words where that is without a loss."""
    try:
        if key.startswith(WAITING) and key[-_ORDINAL_BYTES - 1 : -_ORDINAL_BYTES] == b"\0":
            post = posts.decode(value)
            box = key[1 : -_ORDINAL_BYTES - 1].decode()
            if _kept(box, post) == value:
                return {"box": box, "ordinal": int.from_bytes(key[-_ORDINAL_BYTES:], "big"), "post": post_to_json(post)}
        if key.startswith(DEAD):
            letter = deadletters.decode(value)
            if deadletters.encode(letter) == value:
                return {"dead": int.from_bytes(key[1:], "big"), "letter": letter_to_json(letter)}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    return {"row": [base64.b64encode(key).decode(), base64.b64encode(value).decode()]}


def letter_to_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter, with its post."""
    made = msgspec.structs.asdict(letter)
    return {**made, "post": post_to_json(letter.post)}


def post_to_json(post: Post) -> dict[str, Any]:
    """A post, with its failures."""
    made = msgspec.structs.asdict(post)
    return {
        **made,
        "args": value_to_json(bytes(post.args)),
        "kwargs": value_to_json(bytes(post.kwargs)),
        "failures": [msgspec.structs.asdict(failure) for failure in post.failures],
    }


def _kept(box: str, post: Post) -> bytes:
    """A post as it is in the store: one that never failed says nothing of failures."""
    if post.failures:
        return posts.encode(post)
    return posts.written(
        box, post.handler, post.args, post.kwargs, post.sender, post.id, post.at, post.expires_at
    )


def _post_from(made: dict[str, Any]) -> Post:
    args, kwargs = (Raw(value_from_json(made[name])) for name in ("args", "kwargs"))
    failures = tuple(Failure(**failure) for failure in made["failures"])
    rest = {key: value for key, value in made.items() if key not in ("args", "kwargs", "failures")}
    return posts.decode(posts.encode(Post(args=args, kwargs=kwargs, failures=failures, **rest)))


def _of_line(line: bytes) -> bytes:
    return line.strip().removeprefix(b"[").strip().rstrip(b",]").strip()


def _named(name: str) -> bytes:
    encoded = name.encode()
    if not encoded or b"\0" in encoded:
        raise BadJson(f"{name!r} is no name")
    return encoded + b"\0"
