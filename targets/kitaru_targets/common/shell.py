"""Quote texts that an engine inserts into a shell command unchanged."""

from __future__ import annotations

from urllib.parse import quote

# Neither a shell, within single quotes, nor an engine's own `${{…}}` sees anything in these.
_SAFE = "!()*+,-./:;<=>?@[]^_|~#&"


def encoded(text: str) -> str:
    """Return a text percent-encoded, so that it is one plain word within single quotes.

    >>> encoded("it's 100 %")
    'it%27s%20100%20%25'
    """
    return quote(text, safe=_SAFE)


def plain(text: str) -> str:
    """Return a text to be read by people, without what an engine expands and what cannot be seen.

    >>> plain("a${{b}}")
    'a$ { {b} }'
    """
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.replace("{{", " { {").replace("}}", "} }")
