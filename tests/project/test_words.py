"""Text is plain technical English: the phrases of words.toml occur in no document or source."""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from pathlib import Path

import pytest

from .conftest import ROOT, tracked

HERE = Path(__file__).parent
PHRASES = [
    (re.compile(one["pattern"].replace(" ", r"\s+"), re.IGNORECASE), one["instead"])
    for one in tomllib.loads((HERE / "words.toml").read_text("utf-8"))["phrase"]
]
# The list itself, its test, and code that tests for None.
EXCEPT = {
    "tests/project/words.toml",
    "tests/project/test_words.py",
    "tests/fixes/pages/KIT206.md",
}


def documents() -> list[Path]:
    return [p for p in tracked("*.md") if not p.is_relative_to(ROOT / "tests")]


def sources() -> list[Path]:
    patterns = ("*.py", "*.j2", "pyproject.toml", "website/*.yml", "tests/*.md")
    return [p for p in tracked(*patterns) if str(p.relative_to(ROOT)) not in EXCEPT]


def prose(path: Path) -> str:
    """Return what people read in a file: of Python its comments and strings."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    parts = [t.string.removeprefix("# ") for t in tokens if t.type in kinds]
    return "\n".join(parts)


def found(text: str) -> list[str]:
    hits = [(m.start(), m[0], use) for phrase, use in PHRASES for m in phrase.finditer(text)]
    return [f"{' '.join(words.split())!r}: use {use}" for _, words, use in sorted(hits)]


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_have_none_of_the_phrases(document: Path) -> None:
    assert found(document.read_text("utf-8")) == []


def test_sources_have_none_of_the_phrases() -> None:
    hits = {str(path.relative_to(ROOT)): found(prose(path)) for path in sources()}
    assert {path: phrases for path, phrases in hits.items() if phrases} == {}


def test_a_phrase_is_found_across_lines_and_a_word_alone_is_not() -> None:
    assert found("It is gone\non with. Whoever does.") == [
        "'gone on': use resume, continue",
        "'Whoever': use the caller, the process that, everybody who",
    ]
    assert found("It continues. Nobody does. Done so far.") == []
