r"""
Texts of others as messages show them: nothing in them ends a line, and bytes that are no text are seen as bytes.

Names of files and words of a command line may be any bytes; Python shows those that are no UTF-8 as halves of
characters, `\udcff` for the byte 0xff (PEP 383). Nobody has typed that: what was typed is `\xff`.
"""

from __future__ import annotations

import re

BYTES = {code: f"\\x{code - 0xDC00:02x}" for code in range(0xDC80, 0xDD00)}
"""For `str.translate`."""

_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])")


def readable(text: str) -> str:
    """`text` as UTF-8 can write it: without halves of characters."""
    return text.translate(BYTES).encode(errors="backslashreplace").decode()


def quoted(value: object, most: int) -> str:
    """`value` in quotes, in ASCII, and no more of it than `most` characters."""
    return _ESCAPED.sub(r"\1\\x\2", ascii(value)[:most])
