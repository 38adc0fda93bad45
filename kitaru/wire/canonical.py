"""Canonical JSON: equal documents have equal bytes, and therefore equal digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from kitaru.wire.chunked_bytes import reference

_FORM: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
_encode = json.JSONEncoder(**_FORM, default=reference).encode


def dumps(document: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return `document` as canonical JSON: sorted keys, no spaces, ASCII only, parts by digest.

    Args:
        default: returns the replacement of a part, instead of its reference.

    Raises:
        ValueError: the document contains NaN, an infinity or a cycle.
        TypeError: the document contains a value that JSON cannot represent.

    Example:
        >>> dumps({"b": 1, "a": "é"})
        b'{"a":"\\\\u00e9","b":1}'
    """
    encode = json.JSONEncoder(**_FORM, default=default).encode if default else _encode
    return encode(document).encode("ascii")


def sha256(data: bytes) -> str:
    """Return the digest of `data` as `sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(document: Any) -> str:
    """Return the digest of a document's canonical form."""
    return sha256(dumps(document))
