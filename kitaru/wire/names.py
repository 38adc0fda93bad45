"""The grammar of names, such as those of flows, and suggestions for mistyped ones.

Names become parts of keys, file names and node names, so they are plain ASCII words. Keys of a
memory are used only as keys, and more characters are allowed. Text for people (questions, display
names) is data and is not checked here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from kitaru.errors import UsageError
from kitaru.wire.limits import MAX_MEMORY_KEY_CHARACTERS, MAX_NAME_CHARACTERS

_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{MAX_NAME_CHARACTERS - 1}}}", re.ASCII)
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
_DIGEST = 12
_MEMORY_KEY = re.compile(
    rf"[A-Za-z0-9_][A-Za-z0-9_.:/@+=,~-]{{0,{MAX_MEMORY_KEY_CHARACTERS - 1}}}", re.ASCII
)


def check_name(kind: str, name: str) -> str:
    """Return `name` if it is valid; `kind` ("checkpoint", "wait", …) is for the message.

    A name starts with a letter or underscore and continues with letters, digits, `_` or `-`. It is
    ASCII and has at most 100 characters.

    Raises:
        UsageError: `name` is not a string or does not match the grammar.

    Example:
        >>> check_name("wait", "approve_draft")
        'approve_draft'
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise UsageError(
        f"{_short(name)} cannot be the name of a {kind}",
        help="use a letter or underscore, then letters, digits, underscores or dashes (ASCII, "
        f"at most {MAX_NAME_CHARACTERS} characters), such as `approve_draft`",
    )


def name_from(text: str) -> str:
    """Return a valid name for any text.

    Text that is too long, or has letters beyond ASCII, ends with a digest, so that different texts
    of people have different names.

    Example:
        >>> name_from("get weather"), name_from("7up")
        ('get_weather', '_7up')
    """
    if _NAME.fullmatch(text):
        return text
    name = _NO_NAME.sub("_", text)
    name = name if _NAME.match(name) else f"_{name}"
    if text.isascii() and text and len(name) <= MAX_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{name[: MAX_NAME_CHARACTERS - _DIGEST - 1].rstrip('_')}_{digest}"


def check_memory_key(key: str) -> str:
    """Return `key` if it is a valid key of a memory.

    It starts with a letter, digit or underscore and continues with those and `. : / @ + = , ~ -`.
    It is ASCII and has at most 100 characters.

    Raises:
        UsageError: `key` is not a string or does not match the grammar.

    Example:
        >>> check_memory_key("user/42:tone")
        'user/42:tone'
    """
    if isinstance(key, str) and _MEMORY_KEY.fullmatch(key):
        return key
    raise UsageError(
        f"{_short(key)} cannot be the key of a memory.",
        help="use a letter, digit or underscore, then also . : / @ + = , ~ and - (ASCII, at most "
        f"{MAX_MEMORY_KEY_CHARACTERS} characters), such as `user/42:tone`",
    )


def _short(name: object) -> str:
    shown = ascii(name)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def nearest(given: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Return the known name that is most similar to `given`, or "" if none is similar.

    `alike` is the required similarity, from 0 to 1.

    >>> nearest("vertx", ["vertex", "airflow"])
    'vertex'
    """
    # The import takes milliseconds, which only a command with a mistake pays.
    from difflib import get_close_matches

    return next(iter(get_close_matches(given, sorted(known), n=1, cutoff=alike)), "")


def some(names: Sequence[str], most: int = 20) -> str:
    """Return names as a comma-separated list, shortened to `most` names.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def suggestion(given: str, known: Iterable[str], otherwise: str) -> str:
    """Return the help of an error about an unknown name: a suggestion, then `otherwise`.

    >>> suggestion("vertx", ["vertex", "airflow"], "kitaru target list")
    'Did you mean vertex?\\nkitaru target list'
    """
    near = nearest(given, known)
    return f"Did you mean {near}?\n{otherwise}" if near else otherwise
