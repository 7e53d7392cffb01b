"""
Topics and patterns of published signals.

A topic is dotted text, such as `shop.orders.placed`: one to `MAX_TOPIC_BYTES` bytes of UTF-8, in parts that are not
empty and hold no dot, no `*`, no `>`, no white space and no control character. A pattern is a topic in which `*` may
stand for any one part, and `>`, as the last part, for one or more. Topics below `regrow.` are the daemon's own.
"""

from __future__ import annotations

import re

from regrow.config.readable import quoted

MAX_TOPIC_BYTES = 255
ONE, REST = "*", ">"
RESERVED = "regrow"

_PART = r"[^\s.*>\x00-\x1f\x7f]+"
_topic = re.compile(rf"{_PART}(?:\.{_PART})*").fullmatch
_pattern = re.compile(rf"(?:(?:{_PART}|\*)\.)*(?:{_PART}|\*|>)").fullmatch


class TopicError(ValueError):
    """Not a topic, or not a pattern; the text says why."""


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_TOPIC_BYTES
    except UnicodeEncodeError:
        return False


def check_topic(topic: str) -> None:
    """
    Say whether something can be published under this.

    Raises:
        TopicError.
    """
    if _topic(topic) is None or not _fits(topic):
        raise TopicError(f"{_shown(topic)} is no topic: a topic is dotted text of up to {MAX_TOPIC_BYTES} bytes")


def check_free_topic(topic: str) -> None:
    """
    Say whether somebody other than the daemon may publish under this.

    Raises:
        TopicError.
    """
    check_topic(topic)
    if is_reserved(topic):
        raise TopicError(f"{_shown(topic)} is not free: topics below {RESERVED}. are the daemon's own")


def check_pattern(pattern: str) -> None:
    """
    Say whether this can be subscribed to.

    Raises:
        TopicError.
    """
    if _pattern(pattern) is None or not _fits(pattern):
        text = f"a pattern is a topic in which {ONE} may be any part and {REST}, at its end, all that is left"
        raise TopicError(f"{_shown(pattern)} is no pattern: {text}")


def is_reserved(topic: str) -> bool:
    """Whether it is one of the daemon's own."""
    return topic == RESERVED or topic.startswith(f"{RESERVED}.")


def is_event_pattern(pattern: str) -> bool:
    """Whether the daemon's events may be among what it matches."""
    return pattern.split(".", 1)[0] in (RESERVED, ONE, REST)


def topic_part(text: str) -> str:
    """`text` as a part of a topic: what cannot stand in one becomes `_`."""
    return re.sub(r"[\s.*>\x00-\x1f\x7f]", "_", text) or "_"


def _shown(text: str) -> str:
    return quoted(text if len(text) <= 60 else text[:60] + "…", 500)
