"""Steps get the library that checks JSON schemas where code may ask with one, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_compiler.frontend.schemas import REQUIREMENT
from kitaru_targets import registry

FLOW = """\
from functools import partial
from typing import Literal

import kitaru
import kitaru as k
from kitaru import flow, llm
from kitaru import wait as ask
from pydantic import BaseModel


class Review(BaseModel):
    text: str


ORDER = {{"type": "object"}}
OPTIONS = {{"schema": ORDER}}
reviewed = partial(ask, schema=Review)


def frame(schema):
    return schema


@flow
def main():
    return {call}
"""


def requirements(folder: Path, call: str, listed: str = "") -> tuple[str, ...]:
    file = folder / "flow.py"
    file.write_text(FLOW.format(call=call), "utf-8")
    (folder / "requirements.txt").write_text(listed, "utf-8")
    compiled = compile_flow(file, "main", profile=registry.get("vertex").profile)
    return compiled.plan.requirements


@pytest.mark.parametrize(
    "call",
    [
        'kitaru.wait(name="a", schema=Review)',
        'k.wait(name="a", schema=ORDER)',
        'ask(name="a", schema={"minimum": 3})',
        'ask(name="a", schema=Literal["a", "b"])',
        'ask(name="a", schema=list[int])',
        'ask(name="a", schema=frame(bool))',
        "ask(**OPTIONS)",
        'llm("a", schema=ORDER)',
        'llm("a", schema={"type": "object"})',
    ],
)
def test_a_flow_that_may_ask_with_a_schema(call: str, tmp_path: Path) -> None:
    assert REQUIREMENT in requirements(tmp_path, call)


@pytest.mark.parametrize(
    "call",
    [
        'ask(name="a")',
        'ask(name="a", schema=bool)',
        'ask(name="a", schema=None)',
        'llm("a", schema=Review)',
        'llm("a", schema=list[Review])',
        "frame(schema=ORDER)",
    ],
)
def test_a_flow_that_asks_for_plain_types(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        f"{__name__}.FLOW", FLOW.replace("reviewed = partial(ask, schema=Review)\n", "")
    )
    assert requirements(tmp_path, call) == ()


def test_a_partial_and_a_version_of_the_projects_own(tmp_path: Path) -> None:
    assert requirements(tmp_path, "frame(bool)") == (REQUIREMENT,)
    own = "jsonschema_rs==0.61.3"
    assert requirements(tmp_path, 'ask(name="a", schema=Review)', f"{own}\n") == (own,)
