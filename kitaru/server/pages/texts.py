"""Texts of pages: foreign texts shown harmlessly, and times, durations, numbers and costs in words.

A foreign text is one that a model, an input or a flow wrote. It can neither look like a part of the
page nor change the order of its neighbours: invisible and direction-changing characters are shown
by their code points, and the text is isolated. Templates escape HTML by themselves.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape

from kitaru.wire.redaction import redactor

_MOST_MARKS = 3
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# Control characters except line breaks and tabs, characters that change the direction of the text
# or have no width, and private and unassigned ones, which fonts may draw as anything.
_HIDDEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
_SUSPECT = re.compile(r"[^\x20-\x7e\n\t]")


_hide: ContextVar[Callable[[str], str]] = ContextVar("hide_secrets", default=str)


@contextmanager
def hiding_secrets() -> Iterator[None]:
    """Hide the secrets that are known now in every text that is shown inside the block."""
    token = _hide.set(redactor())
    try:
        yield
    finally:
        _hide.reset(token)


def finalized(value: Any) -> Any:
    """Return what a template inserts for a value: a text without secrets."""
    return _hide.get()(value) if type(value) is str else value


@lru_cache(maxsize=4096)
def _is_hidden(character: str) -> bool:
    # The joiners of emoji and of scripts such as Persian stay.
    return unicodedata.category(character) in _HIDDEN and character not in "\u200c\u200d\ufe0f"


def foreign(text: object) -> Markup:
    """Return a foreign text as HTML: escaped, isolated, hidden characters by their code points.

    Example:
        foreign("a\\u202eb")  # '<bdi>a<i class="code">202E</i>b</bdi>'
    """
    return Markup("<bdi>{}</bdi>").format(visible(str(text)))


def visible(text: str) -> Markup:
    """Return `foreign` without the isolation, for places inside of an isolated text."""
    text = _hide.get()(text)
    if _SUSPECT.search(text) is None:
        return escape(text)
    parts: list[str | Markup] = []
    marks = 0
    for character in text:
        if character in "\n\t":
            parts.append(character)
        elif _is_hidden(character):
            parts.append(Markup('<i class="code">{}</i>').format(f"{ord(character):04X}"))
        else:
            # Piles of combining marks cover the lines above and below.
            marks = marks + 1 if unicodedata.combining(character) else 0
            if marks <= _MOST_MARKS:
                parts.append(character)
    return Markup("").join(parts)


def middle(text: object, most: int = 80) -> str:
    """Return a text in one line, cut in its middle to `most` characters: its end stays visible."""
    line = " ".join(str(text).split())
    if len(line) <= most:
        return line
    tail = most // 3
    return f"{line[: most - tail - 1]}…{line[-tail:]}"


def excerpt(value: Any, most: int = 80) -> str:
    """Return a value as one short line: a text as it is, everything else as JSON."""
    if isinstance(value, str):
        return middle(value, most)
    # Large values are cut before they are written.
    return middle(json.dumps(_shallow(value), ensure_ascii=False), most)


def _shallow(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value[:200]
    if isinstance(value, dict):
        return {} if depth > 2 else {k: _shallow(value[k], depth + 1) for k in list(value)[:12]}
    if isinstance(value, list):
        return [] if depth > 2 else [_shallow(one, depth + 1) for one in value[:12]]
    return value


def took(seconds: float | None) -> str:
    """Return a duration in at most two units: `7 ms`, `0.42 s`, `1 m 12 s`, `3 d 4 h`."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} m {seconds % _MINUTE:02.0f} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:02.0f} m"
    return f"{seconds // _DAY:.0f} d {seconds % _DAY // _HOUR:.0f} h"


def until(start: str, end: str) -> float | None:
    """Return the seconds between two moments, for `took`; None if one is not recorded."""
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)) / timedelta(seconds=1)


def age(moment: str, now: datetime) -> str:
    """Return how long ago a moment is, in one unit: `now`, `14 min`, `20 h`, `3 d`."""
    seconds = (now - datetime.fromisoformat(moment)) / timedelta(seconds=1)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * size or (seconds >= size and unit != "d"):
            return f"{seconds // size:.0f} {unit}"
    return "now"


def clock(moment: str) -> str:
    """Return a moment for people: `30 Nov 2026, 10:26:59 UTC`. The browser shows its own zone."""
    return f"{datetime.fromisoformat(moment):%-d %b %Y, %H:%M:%S} UTC"


def money(dollars: float | None) -> str:
    """Return US dollars with two significant digits below one cent, or `–` if unknown."""
    if dollars is None:
        return "–"
    if dollars == 0:
        return "$0"
    digits = 2 if dollars >= 1 else 4 if dollars >= 0.001 else 6
    return f"${dollars:,.{digits}f}"


def size(count: int) -> str:
    """Return a number of bytes: `812 B`, `8 KB`, `2.1 MB`."""
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.0f} KB"
    return f"{count / 1_000_000:.1f} MB"
