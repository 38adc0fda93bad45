"""The document of the target `local`, and the dry run of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.base import ContainerSpec
from kitaru_targets.local import submit
from kitaru_targets.local.validate import parsed

from kitaru.errors import StateError, UsageError

from .conftest import REVIEW, Make
from .programs import Do, plan
from .test_dry_run import Watched
from .test_injection import TEXT

TARGET = registry.get("local")
DIGEST = "sha256:" + "0" * 64
WIRING = ContainerSpec(
    "", ("python3", "-c", "…"), (DIGEST, "pydantic==2.7.0", "step"), "", {"A": "b"}
)


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TARGET.emit(plan((Do("a"),)), WIRING).text)
    return found


def test_local_is_no_orchestrator() -> None:
    assert TARGET.runs_whole and "local" not in registry.names()
    assert TARGET.validate(json.dumps(document())) == []


CHANGES = {
    "schema": lambda d: d.update(schema=2),
    "digest": lambda d: d.update(bundle="sha256:12"),
    "pin": lambda d: d.update(requirements=["pydantic>=2"]),
    "variable": lambda d: d["environment"].update({"A=B": "c"}),
    "value": lambda d: d["environment"].update({"A": "\0"}),
    "no store": lambda d: d["inputs"].pop("kitaru_store"),
    "type": lambda d: d["inputs"].update(n={"type": "integer", "default": 1.5}),
    "no type": lambda d: d["inputs"].update(n={"type": "set", "default": ""}),
    "program": lambda d: d["command"].__setitem__(1, "os"),
    "plan": lambda d: d["command"].__setitem__(4, "/tmp/plan.json"),
    "field": lambda d: d.update(more=1),
    "list": lambda d: d.update(requirements={"a": 1}),
    "table": lambda d: d.update(environment=["A"]),
    "word": lambda d: d["command"].append(1),
    "input": lambda d: d["inputs"].update(n="text"),
    "unhashable": lambda d: d["inputs"].update(n={"type": ["string"], "default": ""}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bad_document_is_found(change: str) -> None:
    changed = document()
    CHANGES[change](changed)
    assert len(TARGET.validate(json.dumps(changed))) == 1
    assert TARGET.validate("{") != []
    with pytest.raises(StateError, match="the file starts no process"):
        parsed(json.dumps(changed), "the file")


@pytest.mark.parametrize("data", [b"\xff", b"[" * 100_000, b"null", b"{"])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="the file starts no process"):
        parsed(data, "the file")


@settings(max_examples=60, deadline=None)
@given(text=TEXT, number=st.integers(), value=st.booleans())
def test_an_input_is_one_argument(text: str, number: int, value: bool) -> None:
    inputs = {"text": text, "number": number, "flag": value}
    given_here = {**inputs, "kitaru_store": "sqlite:s", "kitaru_execution": "e"}
    words = submit.command(document(), Path("/bundle"), given_here, run="r")
    named = {word.partition("=")[2] for word in words if word.startswith("--input=")}
    expected = {f"text={text}", f"number={number}", f"flag={json.dumps(value)}"}
    assert named == expected
    assert words[words.index("--execution") + 1] == "e"
    assert words[words.index("--plan") + 1] == "/bundle/kitaru_build/plan.json"


def test_code_that_is_not_in_the_store_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="reads its code from the store"):
        make(REVIEW, "local", delivery="image", image="i")


@pytest.mark.parametrize(
    ("answer", "result"), [(True, "published: owls owls"), (False, "rejected")]
)
def test_a_dry_run_of_the_document(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool, result: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = Watched(tmp_path)
    built = make(REVIEW, "local")
    waiting = run(built, topic="owls")
    assert waiting["status"] == "waiting"
    done = run(built, {"approve": answer}, waiting["exec_id"], topic="owls")
    assert (done["status"], done["result"]) == ("completed", result)
