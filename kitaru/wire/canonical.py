"""Decides the one byte form of a JSON document, so that equal documents have equal digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def dumps(document: Any) -> bytes:
    """Return `document` as canonical JSON: sorted keys, no spaces, ASCII only.

    Raises:
        ValueError: it holds NaN, an infinity or a cycle.
        TypeError: it holds something JSON has no word for.

    Example:
        >>> dumps({"b": 1, "a": "é"})
        b'{"a":"\\\\u00e9","b":1}'
    """
    return _encode(document).encode("ascii")


def sha256(data: bytes) -> str:
    """Return the digest of `data` as `sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(document: Any) -> str:
    """Return the digest of a document's canonical form."""
    return sha256(dumps(document))
