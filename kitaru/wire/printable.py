r"""Make text from flows, models and stores safe to print on a terminal.

A terminal interprets more than letters: escape sequences, carriage returns, C1 controls, characters
that change the direction of text, and characters that take no room. A model's answer that contains
them could erase or forge what a person reads before approving. So everything that Kitaru prints
goes through here. Such characters become visible escapes:

    pay\x1b[2K\rcancel          shown as written here, instead of just `cancel`

A line break can forge a line such as `answer   kitaru …`. Every line after the first is indented,
and Kitaru's own lines start at column 0.

Kitaru's own styles are written with a mark that only this process knows (`styled`), and become
escape sequences last (`rendered`), so that no other text can contain one.
"""

from __future__ import annotations

import os
import re
import unicodedata

from kitaru.wire.redaction import redacted

_MARK = os.urandom(8).hex()
_STYLE = re.compile(f"\0{_MARK}\\[([0-9;]+)m")
# Letters and similar characters that are invisible.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_SHOWN = ("Zs", "Co")
INDENT = 2


def visible(text: str) -> str:
    """Return a text with visible escapes for invisible characters, except line breaks and tabs.

    Example:
        >>> visible("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    if text.isprintable() and not (_BLANK & set(text)):
        return text
    parts = _STYLE.split(text)
    parts[::2] = ["".join(map(_visible, part)) for part in parts[::2]]
    parts[1::2] = [f"\0{_MARK}[{code}m" for code in parts[1::2]]
    return "".join(parts)


def indented(text: str, indent: int = INDENT) -> str:
    """Return a text whose lines after the first start at column `indent`."""
    return text.replace("\n", "\n" + " " * indent)


def styled(text: str, code: str) -> str:
    """Return a text in a style of Kitaru's own; `code` is an SGR code such as `1;32`."""
    return f"\0{_MARK}[{code}m{text}\0{_MARK}[0m"


def plain(text: str) -> str:
    """Return a text without Kitaru's own styles."""
    return _STYLE.sub("", text)


def rendered(text: str, *, color: bool) -> str:
    """Return a text with Kitaru's own styles as escape sequences, or without them."""
    return _STYLE.sub("\x1b[\\1m" if color else "", text)


def line(text: str, indent: int = INDENT) -> str:
    """Return a text as a line for a terminal or a log: secrets hidden, control codes escaped."""
    return indented(visible(redacted(text)), indent)


def _visible(character: str) -> str:
    is_drawn = character.isprintable() or unicodedata.category(character) in _SHOWN
    if (is_drawn and character not in _BLANK) or character in "\n\t":
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
