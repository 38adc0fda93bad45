"""What flows remember, from the command line: each command in text and as one document."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.llm.scripted import Says, serving

from .conftest import Kitaru

SCOPE = ("--scope", "namespace:team")


@pytest.fixture
def filled(kitaru: Kitaru) -> Kitaru:
    for key, value in [("tone", "dry"), ("tone", '{"n": 1}'), ("user/1", "true"), ("user/2", "x")]:
        kitaru("memory", "set", key, value, *SCOPE)
    return kitaru


def test_get_and_set(filled: Kitaru) -> None:
    assert filled("memory", "get", "tone", "--version", "1", *SCOPE).out == "dry\n"
    document = filled("memory", "get", "tone", "--json", *SCOPE).document
    assert (document["key"], document["version"], document["value"]) == ("tone", 2, {"n": 1})
    assert filled("memory", "get", "user/1", "--json", *SCOPE).document["value"] is True
    set_ = filled("memory", "set", "tone", "3", "--expect", "2", "--json", *SCOPE)
    assert set_.document == {"key": "tone", "version": 3}


def test_what_is_not_there(filled: Kitaru) -> None:
    error = filled("memory", "get", "absent", "--json", *SCOPE, code=2).error
    assert error["type"] == "NotFound"
    assert filled(*shlex.split(error["help"])[1:]).out == "no versions\n"
    assert filled("memory", "list", "zz", *SCOPE).out == "no keys\n"


def test_a_conflict_names_the_version_that_is_there(filled: Kitaru) -> None:
    error = filled("memory", "set", "tone", "x", "--expect", "1", "--json", *SCOPE, code=2).error
    assert error["type"] == "MemoryConflict"
    assert "version 2" in error["message"]
    assert filled("memory", "set", "tone", "x", "--expect", "0", *SCOPE, code=2).out == ""


def test_list_and_delete(filled: Kitaru) -> None:
    assert filled("memory", "list", *SCOPE).out.split() == ["tone", "user/1", "user/2"]
    assert filled("memory", "delete", "user/1", *SCOPE).out == "user/1 is deleted\n"
    again = filled("memory", "delete", "user/1", "--json", *SCOPE).document
    assert again == {"key": "user/1", "deleted": False}
    listed = filled("memory", "list", "user/", "--json", *SCOPE).document
    assert listed == {"items": ["user/2"], "count": 1, "next": None}


def test_history_says_when_what_and_who(filled: Kitaru) -> None:
    filled("memory", "delete", "tone", *SCOPE)
    lines = filled("memory", "history", "tone", *SCOPE).out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "str, 5 bytes" in lines[0] and "outside/" in lines[0] and "deleted" in lines[2]
    document = filled("memory", "history", "tone", "--limit", "2", "--json", *SCOPE).document
    assert [item["version"] for item in document["items"]] == [2, 3]
    assert [item["deleted"] for item in document["items"]] == [False, True]


def test_purge_leaves_nothing(filled: Kitaru) -> None:
    assert filled("memory", "purge", "tone", *SCOPE).out == "tone is erased, 2 versions\n"
    purged = filled("memory", "purge", "tone", "--json", *SCOPE).document
    assert purged == {"key": "tone", "versions": 0}
    assert filled("memory", "list", *SCOPE).out.split() == ["user/1", "user/2"]


def test_without_a_scope_it_says_how_to_give_one(kitaru: Kitaru) -> None:
    error = kitaru("memory", "list", "--json", code=2).error
    assert "KITARU_MEMORY_SCOPE" in error["help"]
    assert kitaru("memory", "list", KITARU_MEMORY_SCOPE="namespace:x").out == "no keys\n"


def test_compaction_needs_a_model(filled: Kitaru) -> None:
    error = filled("memory", "compact", "tone", "--json", *SCOPE, code=2).error
    assert "none is configured" in error["message"] and "KITARU_MODELS" in error["help"]
    assert filled("memory", "compact", "--prefix", "user/", *SCOPE, code=2).out == ""


def test_compaction_by_a_model(filled: Kitaru, tmp_path: Path) -> None:
    with serving([Says("both users agree")]) as provider:
        done = filled(
            "memory", "compact", "--prefix", "user/", "--into", "users", "--json",
            "--model", "openai/scripted", *SCOPE,
            OPENAI_API_BASE=provider.url, OPENAI_API_KEY="none-needed",
        )  # fmt: skip
    assert done.document["sources"] == [["user/1", 1], ["user/2", 1]]
    assert (done.document["model"], done.document["version"]) == ("openai/scripted", 1)
    assert done.document["tokens"] == {"prompt": 7, "completion": 3}
    assert filled("memory", "list", *SCOPE).out.split() == ["tone", "users"]
    assert filled("memory", "get", "users", *SCOPE).out == "both users agree\n"
    assert "of 2 notes" in filled("memory", "history", "users", *SCOPE).out


def test_scopes_are_listed(filled: Kitaru) -> None:
    filled("memory", "set", "gone", "1", "--scope", "flow:review")
    filled("memory", "delete", "gone", "--scope", "flow:review")
    filled("memory", "set", "a", "1", "--scope", "namespace:a-b")
    items = filled("memory", "scope", "list", "--json").document["items"]
    found = [(item["scope"], item["keys"]) for item in items]
    assert found == [("flow:review", 0), ("namespace:a-b", 1), ("namespace:team", 3)]
    assert items[0]["written_at"] == "" and items[2]["written_at"].endswith("Z")
    assert "namespace:team  3 keys" in filled("memory", "scope", "list").out


def test_no_scopes(kitaru: Kitaru) -> None:
    assert kitaru("memory", "scope", "list").out == "no memory in this store\n"


def test_the_value_at_a_time(filled: Kitaru) -> None:
    first, second = filled("memory", "history", "tone", "--json", *SCOPE).document["items"]
    at = ("memory", "get", "tone", *SCOPE, "--at")
    assert filled(*at, first["written_at"]).out == "dry\n"
    assert filled(*at, second["written_at"], "--json").document["version"] == 2
    assert filled(*at, "2999-01-01T00:00+02:00", "--json").document["version"] == 2
    before = filled(*at, "2001-02-03", "--json", code=2).error
    assert before["type"] == "NotFound" and "2001-02-03" in before["message"]
    assert "no value" in filled(*at, "1h", code=2).err
    assert "not a time" in filled(*at, "yesterday", code=2).err
    both = filled(*at, "1h", "--version", "1", "--json", code=2).error
    assert "exclude" in both["message"]


def test_a_deleted_value_had_one_before(filled: Kitaru) -> None:
    filled("memory", "delete", "tone", *SCOPE)
    *_, second, gone = filled("memory", "history", "tone", "--json", *SCOPE).document["items"]
    at = ("memory", "get", "tone", *SCOPE, "--json", "--at")
    assert filled(*at, second["written_at"]).document["value"] == {"n": 1}
    assert filled(*at, gone["written_at"], code=2).error["type"] == "NotFound"
