"""Show Markdown that a model or a flow wrote: as HTML that contains only its structure.

HTML in it is shown as text. Links and images stay as they are written, so that no text leads a
reader elsewhere, and no picture is loaded. Hidden characters are visible, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from kitaru.server.pages.texts import visible

# What distinguishes Markdown from plain text: a heading, a list, a table, a quote, code, emphasis.
_MARKS = re.compile(
    r"^(?:#{1,6} \S|[-*+] \S|\d+\. \S|> |```|\|.*\|\s*$)|\*\*\S[^*\n]*\*\*|`[^`\n]+`", re.MULTILINE
)
_MOST = 100_000


def has_marks(text: object) -> bool:
    """Return whether a text seems to be Markdown."""
    return isinstance(text, str) and len(text) <= _MOST and _MARKS.search(text) is not None


def markdown(text: str) -> Markup:
    """Return Markdown as HTML.

    Example:
        markdown("**yes**, not <b>no</b>")
    """
    return Markup(_renderer().render(text))


@cache
def _renderer() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "maxNesting": 12}).enable("table")
    made.disable(["link", "image", "autolink", "html_inline", "html_block", "reference", "entity"])
    rules: dict[str, Any] = made.renderer.rules  # type: ignore[attr-defined]
    rules["text"] = _text
    rules["code_inline"] = _code
    rules["code_block"] = rules["fence"] = _block
    # The headings of the page are its own.
    rules["heading_open"] = lambda tokens, index, *_: f'<p class="heading {tokens[index].tag}">'
    rules["heading_close"] = lambda *_: "</p>\n"
    rules["table_open"] = lambda *_: '<div class="wide" tabindex="0"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    # Their alignment would be a style.
    for cell in ("th", "td"):
        rules[f"{cell}_open"] = lambda tokens, index, *_: f"<{tokens[index].tag}>"
    return made


def _text(tokens: Sequence[Any], index: int, *_: Any) -> str:
    return str(visible(tokens[index].content))


def _code(tokens: Sequence[Any], index: int, *_: Any) -> str:
    return f"<code>{visible(tokens[index].content)}</code>"


def _block(tokens: Sequence[Any], index: int, *_: Any) -> str:
    return f'<pre class="text" tabindex="0">{visible(tokens[index].content)}</pre>\n'
