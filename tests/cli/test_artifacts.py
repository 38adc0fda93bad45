"""`kitaru artifacts` and `kitaru model`: what is stored, and which model an alias is."""

from __future__ import annotations

from .conftest import Kitaru

SAVING = """\
from dataclasses import dataclass

import kitaru
from kitaru import checkpoint, flow


@dataclass
class Draft:
    text: str
    words: tuple[int, int]


@checkpoint
def write() -> Draft:
    kitaru.save("notes", {"b": [1, 2]}, type="notes")
    return Draft("tea", (1, 2))


@flow
def saving() -> str:
    return write().text
"""


def test_artifacts_are_listed_and_read_without_the_users_code(kitaru: Kitaru) -> None:
    source = kitaru.write("saving.py", SAVING)
    exec_id = kitaru("run", "saving.py", "--json").document["exec_id"]
    source.unlink()
    listed = kitaru("artifacts", "list", exec_id, "--json").document["items"]
    assert [(one["name"], one["type"], one["saved"]) for one in listed] == [
        ("notes", "notes", True), ("write", "Draft", False),
    ]  # fmt: skip
    assert kitaru("artifacts", "get", exec_id, "notes", "--json").document["value"] == {"b": [1, 2]}
    shown = kitaru("artifacts", "get", exec_id, "write", "--json").document
    assert (shown["type"], shown["value"]) == ("Draft", {"text": "tea", "words": [1, 2]})
    absent = kitaru("artifacts", "get", exec_id, "gone", "--json", code=2).error
    assert 'no artifact "gone"' in absent["message"]


def test_models_are_listed_with_where_their_key_is(kitaru: Kitaru) -> None:
    assert "offline" in kitaru("model", "list").out
    kitaru.write(
        "pyproject.toml",
        '[tool.kitaru.models]\nsmart = {model = "openai/gpt-4o", secret = "OPENAI_API_KEY"}\n',
    )
    asked = ("model", "list", "--json")
    items = kitaru(*asked, KITARU_DEFAULT_MODEL="smart", OPENAI_API_KEY="q7Zp2LxV9c").document
    assert items["items"] == [
        {
            "alias": "smart", "model": "openai/gpt-4o", "api_base": "", "secret": "OPENAI_API_KEY",
            "default": True,
        }
    ]  # fmt: skip
