"""Write YAML that every parser reads in the same way, with stable bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Words and forms that a YAML 1.1 or 1.2 reader does not read as a string are quoted.
_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOT_STRINGS = frozenset(
    {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}
)
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_BLOCK_LINE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")


class Noted(dict[str, Any]):
    """A dict with a comment, which is written on the line above it, in a dict or in a list."""

    def __init__(self, note: str, value: Mapping[str, Any]) -> None:
        super().__init__(value)
        self.note = note


def dump(document: dict[str, Any], header: Sequence[str] = ()) -> str:
    """Return a dict of dicts, lists, strings, numbers and booleans as YAML, in its own order.

    The lines of `header` are comments at the start.

    Raises TypeError or ValueError for values that a document cannot contain.

    >>> dump({"yes": "1e3", "n": [1, True]})
    '"yes": "1e3"\\n"n":\\n- 1\\n- true\\n'
    >>> dump({"a": Noted("The first.", {"b": 1})}, ["Do not edit."])
    '# Do not edit.\\n# The first.\\na:\\n  b: 1\\n'
    """
    lines = (*map(_comment, header), *_mapping(document, ""))
    return "".join(f"{line}\n" for line in lines)


def dump_all(documents: Mapping[str, dict[str, Any]], header: Sequence[str] = ()) -> str:
    """Return several documents as one text.

    >>> dump_all({"first": {"a": 1}, "second": {"b": 2}})
    'a: 1\\n---\\nb: 2\\n'
    """
    texts = (dump(one, () if n else header) for n, one in enumerate(documents.values()))
    return "---\n".join(texts)


def _comment(text: str) -> str:
    return f"# {''.join(c if c.isprintable() else '?' for c in text)}"


def _mapping(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, Noted):
            yield f"{indent}{_comment(item.note)}"
        yield from _entry(f"{indent}{_key(key)}:", item, indent)


def _entry(head: str, item: Any, indent: str) -> Iterator[str]:
    if isinstance(item, dict) and item:
        yield head
        yield from _mapping(item, f"{indent}  ")
    elif isinstance(item, (list, tuple)) and item:
        yield head
        yield from _sequence(item, indent)
    elif isinstance(item, str) and _fits_block(item):
        yield f"{head} |-"
        yield from _block(item, f"{indent}  ")
    else:
        yield f"{head} {_scalar(item)}"


def _sequence(items: list[Any] | tuple[Any, ...], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, str) or not item or not isinstance(item, (dict, list, tuple)):
            yield from _entry(f"{indent}-", item, indent)
            continue
        if isinstance(item, Noted):
            yield f"{indent}{_comment(item.note)}"
        inside = f"{indent}  "
        lines = _mapping(item, inside) if isinstance(item, dict) else _sequence(item, inside)
        yield f"{indent}- {next(lines)[len(inside) :]}"
        yield from lines


def _key(key: str) -> str:
    plain = _PLAIN_KEY.fullmatch(key) and key.lower() not in _NOT_STRINGS
    return key if plain else _string(key)


def _scalar(value: Any) -> str:
    match value:
        case str():
            return _string(value)
        case bool():
            return "true" if value else "false"
        case dict() | list() | tuple():
            return "{}" if isinstance(value, dict) else "[]"
        case int():
            return str(value)
        case float():
            return _float(value)
    raise TypeError(f"a document cannot hold a {type(value).__name__}")


def _string(text: str) -> str:
    text.encode()  # raises for a lone surrogate, which readers reject
    # A JSON string is a valid double-quoted YAML string, except for unprintable characters.
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _float(value: float) -> str:
    text = repr(value)
    # YAML 1.1 readers require a dot and a sign: they read `1e+16` as a string.
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
        text = f"{mantissa}e{exponent if exponent[0] in '+-' else f'+{exponent}'}"
    return text


def _fits_block(text: str) -> bool:
    lines = text.split("\n")
    if len(lines) < 2 or not lines[0] or not lines[-1]:
        return False
    return lines[0][0] != " " and all(_BLOCK_LINE.fullmatch(line.lstrip(" ")) for line in lines)


def _block(text: str, indent: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield f"{indent}{line}" if line else ""
