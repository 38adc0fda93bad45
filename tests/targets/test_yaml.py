"""A document has the same meaning for every parser, and stable bytes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kitaru_targets.common import read
from kitaru_targets.common.yaml import dump

CONFUSING = [
    "no", "1e3", "0o17", "0x1f", "2026-11-22", "<<", "~", "null", "=", "- a", "a: b", "#c", "", " ",
    "'", '"', "\\", "a\nb", "a\n b", "\ta", "a \nb", "&x", "*x", "!t", "%", "@", "`", "\x85",
    "\u2028", "\ufeff", "\x7f", "é", "\U0001f600", "a\n\n", "\na", "{{x}}",
    "12:30:00", ".inf",
]  # fmt: skip
TEXT = st.one_of(st.sampled_from(CONFUSING), st.text())
SCALARS = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXT, inner)), max_leaves=12
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(st.dictionaries(TEXT, VALUES, min_size=1))
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    assert same(yaml.load(dump(document), yaml.SafeLoader), document)
    assert same(read.parse(dump(document)), document)


@pytest.mark.parametrize("text", CONFUSING)
def test_confusing_text_stays_text(text: str) -> None:
    document = {text: [text, {"a": text}]}
    assert yaml.load(dump(document), yaml.SafeLoader) == document


def test_what_no_reader_takes_is_not_written() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        dump({"a": "\ud800"})
    with pytest.raises(TypeError, match="bytes"):
        dump({"a": b"x"})


def test_programs_are_readable() -> None:
    assert dump({"p": ["import a\n\nif b:\n    c()"]}).splitlines() == [
        "p:", "- |-", "  import a", "", "  if b:", "      c()",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x 1\nb: *x", "anchor"),
        ("a: 1\na: 2", "twice"),
        ("yes: 1", "no text"),
        ("- 1", "mapping"),
        ("null", "mapping"),
        ("", "0 documents"),
        ("a: 1\n---\nb: 2", "2 documents"),
    ],
)
def test_what_readers_take_differently_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read.parse(text)


def test_documents_of_a_text_are_read_in_order_and_each_is_a_mapping() -> None:
    assert read.parse_all("a: 1\n---\nb: 2") == [{"a": 1}, {"b": 2}]
    assert read.parse_all("") == []
    for text, why in (("a: 1\n---\n- 2", "mapping"), ("a: 1\n---\nb: 2\nb: 3", "twice")):
        with pytest.raises(ValueError, match=why):
            read.parse_all(text)
