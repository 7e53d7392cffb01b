"""
Keys of state as bytes: in the order of the keys, so that what belongs together stands together in the store.

A key is one element or a tuple of two and more; an element is a str, an int or a bytes. Keys are in the order of
tuples; elements of different types are in the order bytes, int, str. The encoding of a key is the encodings of its
elements behind each other. No element's encoding is the beginning of another's, so what is below a tuple is one range.

Source: FoundationDB, design/tuple.md, for the order of integers; its texts are not free of prefixes, these are.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

from regrow.ipc.errors import BadState

Element: TypeAlias = str | int | bytes
Key: TypeAlias = Element | tuple[Element, ...]

STORE_KEY_BYTES = 511
"""How long a key may be in LMDB as it is built by default (MDB_MAXKEYSIZE), its owner's name included."""

FIRST, END = b"\x02", b"\xff"
"""All keys are in this range. Below it is what regrow keeps for itself in an owner's state."""

_BYTES, _ZERO, _STR = 0x08, 0x14, 0x20  # an int is _ZERO plus or minus the number of its bytes, then these
_SHORT = 64
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1


def limit_of(owner: str) -> int:
    """How many bytes are left for a key of this owner, behind its name and a zero byte."""
    return STORE_KEY_BYTES - len(owner.encode()) - 1


def reserved(name: str) -> bytes:
    """The row for something of regrow's own, which is no key and comes up in no iteration."""
    return b"\x01" + name.encode()


def is_reserved(row: bytes) -> bool:
    """Whether this row is no key but something of regrow's own."""
    return row < FIRST


def encode(key: Key, limit: int = STORE_KEY_BYTES) -> bytes:
    """
    The bytes that stand for a key, at most `limit`.

    Raises:
        BadState: it is no key, or longer than that.
    """
    if type(key) is str and len(key) <= _SHORT:
        encoded = _text(key)
    elif isinstance(key, tuple):
        if len(key) < 2:
            raise BadState(key, "a tuple of one is no key, use what is in it" if key else "an empty tuple is no key")
        encoded = encode_all(key)
    else:
        encoded = _element(key, key)
    if len(encoded) > limit:
        raise _too_long(key, encoded, limit)
    return encoded


@functools.lru_cache(1024)
def _text(key: str) -> bytes:
    """Nearly all keys are short texts, and most of them are used again."""
    return _element(key, key)


def encode_all(names: tuple[Element, ...], limit: int = STORE_KEY_BYTES) -> bytes:
    """
    The encoding that all keys below these elements begin with; there may be one, or none.

    Raises:
        BadState: as `encode`.
    """
    encoded = b"".join([_element(each, names) for each in names])
    if len(encoded) > limit:
        raise _too_long(names, encoded, limit)
    return encoded


def decode(encoded: bytes) -> Key:
    """
    The key that was encoded.

    Raises:
        BadState: this is the encoding of no key.
    """
    elements: list[Element] = []
    place = 0
    try:
        while place < len(encoded):
            element, place = _read(encoded, place)
            elements.append(element)
    except (ValueError, IndexError):
        raise BadState(encoded, "these bytes in the store are no key") from None
    if not elements:
        raise BadState(encoded, "these bytes in the store are no key")
    return elements[0] if len(elements) == 1 else tuple(elements)


def prefix_range(prefix: str | bytes | tuple[Element, ...], limit: int = STORE_KEY_BYTES) -> tuple[bytes, bytes]:
    """
    Where the keys with this prefix are: the first possible encoding, and the first behind them.

    A tuple stands for all longer keys that begin with its elements; the empty one for all keys. A str or bytes
    stands for all keys whose first element begins with it, be it alone or in a tuple.

    Raises:
        BadState: it is no prefix, or longer than a key may be.
    """
    if isinstance(prefix, tuple):
        above = encode_all(prefix, limit - 1)
        return above + FIRST, above + END
    if not isinstance(prefix, str | bytes):  # whatever a caller without types gives
        raise BadState(prefix, f"a prefix is a str, bytes or a tuple, not {_article(prefix)}")
    first = _element(prefix, prefix)[:-1]
    if len(first) > limit:
        raise _too_long(prefix, first, limit)
    return first, _after(first)


def end_behind(key: Key, limit: int = STORE_KEY_BYTES) -> bytes:
    """The end of a range whose last key is this one, without what is below it."""
    encoded = encode(key, limit)
    return encoded + b"\0" if len(encoded) < limit else _after(encoded)


def _element(element: object, key: object) -> bytes:
    if isinstance(element, str):
        try:
            text = element.encode()
        except UnicodeEncodeError as error:
            raise BadState(key, f"a text in it is not Unicode ({error.reason})") from None
        return b"%c%b\0" % (_STR, _escaped(text))
    if isinstance(element, bytes):
        return b"%c%b\0" % (_BYTES, _escaped(element))
    if isinstance(element, int) and not isinstance(element, bool):
        return _int(element, key)
    where = " in a tuple" if isinstance(key, tuple) else ""
    raise BadState(key, f"a key is a str, an int, bytes or a tuple of these, not {_article(element)}{where}")


def _escaped(content: bytes) -> bytes:
    """A zero byte is the end, so there is none inside; what stands for it is less than anything but the end."""
    return content.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1")


def _int(number: int, key: object) -> bytes:
    """The shortest form, its length first: longer is farther from zero. The negative ones are complements."""
    if not _LEAST <= number <= _MOST:
        raise BadState(key, f"an int in a key is from {_LEAST} to {_MOST}")
    size = (number.bit_length() + 7) // 8
    if number >= 0:
        return bytes((_ZERO + size,)) + number.to_bytes(size, "big")
    return bytes((_ZERO - size,)) + (number + (1 << 8 * size) - 1).to_bytes(size, "big")


def _read(encoded: bytes, place: int) -> tuple[Element, int]:
    """The element that begins there, and where the next one does."""
    kind, place = encoded[place], place + 1
    if kind in (_STR, _BYTES):
        end = encoded.index(b"\0", place)
        content = encoded[place:end].replace(b"\1\1", b"\0").replace(b"\1\2", b"\1")
        return (content.decode() if kind == _STR else content), end + 1
    size = kind - _ZERO
    end = place + abs(size)
    if abs(size) > 8 or end > len(encoded):
        raise ValueError(kind)
    number = int.from_bytes(encoded[place:end], "big")
    return (number if size >= 0 else number - (1 << -8 * size) + 1), end


def _after(encoded: bytes) -> bytes:
    """The least bytes, no longer than these, that are greater than all that begin with these."""
    shortened = encoded.rstrip(b"\xff")
    return shortened[:-1] + bytes((shortened[-1] + 1,))


def _too_long(key: object, encoded: bytes, limit: int) -> BadState:
    return BadState(key, f"a key has at most {limit} bytes in the store, this one would have {len(encoded)}")


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
