"""Secrets are hidden in texts however they are written, and other texts stay as they are.

The secrets here are put together at run time: written out, they would be findings themselves.
"""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kitaru.wire import redaction

RANDOM = "q7Zp2LxV9c" * 2 + "Wt4Rb8"
SHAPED = {
    "openai": "sk-" + RANDOM,
    "github": "ghp_" + "q7Zp2LxV9cWt4Rb8" * 3,
    "aws": "AKIA" + "Q7ZP2LXV9CWT4RB8",
    "google": "AIza" + ("q7Zp2LxV9cWt4Rb8" * 3)[:35],
    "hugging face": "hf_" + "q7Zp2LxV9cWt4Rb8" * 2,
}
FORMS = {
    "as it is": str,
    "in JSON": json.dumps,
    "in repr": repr,
    "in a URL": lambda value: quote(value, safe=""),
    "in base64": lambda value: base64.b64encode(value.encode()).decode(),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    yield


@pytest.mark.parametrize("kind", SHAPED)
def test_a_key_is_known_by_its_shape(kind: str) -> None:
    text = f"refused: {SHAPED[kind]}, try again"
    assert redaction.redacted(text) == "refused: ***, try again"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://me:hunter2@db/x", "postgres://me:***@db/x"),
        ("https://b.blob/x?se=1&sig=abc%3D&sp=r", "https://b.blob/x?se=1&sig=***&sp=r"),
        ("https://api/x?api_key=q7Z&page=2", "https://api/x?api_key=***&page=2"),
        ("Authorization: Bearer " + RANDOM, "Authorization: Bearer ***"),
        ("AccountName=a;AccountKey=" + RANDOM + "==;X=1", "AccountName=a;AccountKey=***;X=1"),
    ],
)
def test_what_stands_behind_a_telling_word(text: str, shown: str) -> None:
    assert redaction.redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the task is done", "sk-your-key-goes-here-please", "a token of 3 words", "",
        "https://host/path?page=2", "s3://bucket/prefix", "1m80qkd1m-dcnw0dgd",
        "sha256:" + "0123456789abcdef" * 4, "me@host: see mailto:me@host",
    ],
)  # fmt: skip
def test_other_texts_stay(text: str) -> None:
    assert redaction.redacted(text) == text


def test_variables_that_are_named_like_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct horse")
    monkeypatch.setenv("SOME_NAME", "battery staple")
    assert redaction.redacted("correct horse, battery staple") == "***, battery staple"


@pytest.mark.parametrize("value", ["1", "true", "debug", "eu-west"])
def test_a_value_that_is_a_word_by_chance_stays(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven characters and fewer stand in texts that tell nothing; eight are a secret."""
    text = f"the value is {value} here"
    monkeypatch.setenv("SOME_API_KEY", value)
    redaction.register_value("NAME", value)
    assert redaction.redacted(text) == text
    assert redaction.find_secret_in_document({"text": text}) == ""
    longer = value.ljust(8, "7")
    redaction.register_value("NAME", longer)
    assert redaction.redacted(f"the value is {longer} here") == "the value is *** here"
    assert redaction.find_secret_in_document([longer]) == "NAME"


def test_a_variable_of_eight_characters_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "12345678")
    assert redaction.redacted("12345678, 1234567") == "***, 1234567"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(min_size=8, max_size=40), form=st.sampled_from(sorted(FORMS)))
def test_a_secret_that_was_read_is_hidden_however_it_is_written(value: str, form: str) -> None:
    redaction.register_value("NAME", value)
    written = FORMS[form](value)
    assert written not in redaction.redacted(f"before {written} after")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text("ab7 \"'é漢🙂\\", min_size=8, max_size=40).filter(lambda s: s == s.strip()),
    width=st.sampled_from([20, 40, 80]),
)
@example(value="correct horse battery staple", width=20)
@example(value="77777777 \\", width=20)
def test_a_secret_that_yaml_breaks_into_lines(value: str, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_known", redaction.Known())
        redaction.register_value("NAME", value)
        text = yaml.safe_dump({"key": [f"some words {value}"]}, width=width)
        assert redaction.find_secret_in_document({"text": text}) == "NAME"


ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
ALPHABET = st.text('ab\0"é漢🙂\ud83d', min_size=8, max_size=12)


def searched_one_by_one(values: dict[str, str], data: bytes) -> set[str]:
    """Return the names of the secrets that bytes contain, each form in each encoding."""
    forms = ((name, form) for name, value in values.items() for form in redaction._written(value))
    return {
        name
        for name, form in forms
        if any(form.encode(encoding, "surrogatepass") in data for encoding in ENCODINGS)
    }


@st.composite
def bytes_near_secrets(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Draw secrets, and bytes that contain them whole, cut off, or at any distance of zeros."""
    values = {f"N{at}": value for at, value in enumerate(draw(st.lists(ALPHABET, max_size=3)))}
    texts = [
        *values.values(),
        "ab",
        "\0",
        *(f for v in values.values() for f in sorted(redaction._written(v))),
    ]
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        piece = draw(st.sampled_from(texts)).encode(
            draw(st.sampled_from(ENCODINGS)), "surrogatepass"
        )
        first, last = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        pieces += [
            piece[first : len(piece) - last],
            draw(st.sampled_from([b"", b"\0", b"a", b"\0\0\0"])),
        ]
    return values, b"".join(pieces)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=bytes_near_secrets())
def test_the_search_finds_what_a_search_for_each_form_finds(
    drawn: tuple[dict[str, str], bytes],
) -> None:
    values, data = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_known", redaction.Known())
        for name, value in values.items():
            redaction.register_value(name, value)
        found, expected = redaction.find_secret_in_bytes(data), searched_one_by_one(values, data)
    assert found in expected if expected else not found


def test_documents_keep_their_form() -> None:
    redaction.register_value("NAME", RANDOM)
    document = {"a": [1, None, f"x{RANDOM}"], RANDOM: {"b": 1.5}}
    assert redaction.redacted_json(document) == {"a": [1, None, "x***"], "***": {"b": 1.5}}


KINDS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def archive(kind: int, *members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", kind) as made:
        for number, member in enumerate(members):
            made.writestr(f"a folder/member {number}.txt", member)
    return data.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_an_archive_are_searched(kind: int) -> None:
    redaction.register_value("NAME", "correct horse")
    found = archive(kind, b"", b"first" * 100, b"x" * 9_999 + b"correct horse")
    assert redaction.find_secret_in_bytes(found) == "NAME"
    assert redaction.find_secret_in_bytes(archive(kind, b"first" * 100)) == ""


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_bomb_is_unpacked_as_far_as_it_is_searched(kind: int) -> None:
    redaction.register_value("NAME", "correct horse")
    bomb = archive(kind, *[bytes(96 * 1024 * 1024)] * 2, b"correct horse")
    assert len(bomb) < 1024 * 1024
    tracemalloc.start()
    try:
        assert redaction.find_secret_in_bytes(bomb) == ""
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The first 16 MiB, and the copies of a search.
    assert most < 80 * 1024 * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_no_error(kind: int) -> None:
    redaction.register_value("NAME", "correct horse")
    whole = archive(kind, b"first" * 100)
    for at in range(0, len(whole), 3):
        redaction.find_secret_in_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
