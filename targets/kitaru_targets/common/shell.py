"""Quote texts that an engine inserts unchanged into a shell command."""

from __future__ import annotations

from urllib.parse import quote

# Within single quotes, neither a shell nor an engine's `${{…}}` gives these a meaning.
_SAFE = "!()*+,-./:;<=>?@[]^_|~#&"


def encoded(text: str) -> str:
    """Return a text percent-encoded, so that it is one plain word within single quotes.

    >>> encoded("it's 100 %")
    'it%27s%20100%20%25'
    """
    return quote(text, safe=_SAFE)


def plain(text: str) -> str:
    """Return a readable text without invisible characters and expressions of engines.

    >>> plain("a${{b}}")
    'a$ { {b} }'
    """
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.replace("{{", " { {").replace("}}", "} }")
