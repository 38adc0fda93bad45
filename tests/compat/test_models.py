"""KITARU_LLM_MOCK_RESPONSE: no model is asked, and no other execution reuses the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

import kitaru
from kitaru import checkpoint, flow


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@checkpoint
def in_checkpoint(topic: str) -> str:
    return kitaru.llm(f"Write about {topic}.", model="openai/gpt-4o")


@flow
def main(topic: str) -> list[str]:
    return [in_checkpoint(topic), kitaru.llm("Shorter.", model="fast", name="short")]


def test_a_mock_response_answers_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", "mocked")
    assert main.run("owls").wait() == ["mocked", "mocked"]


def test_another_execution_does_not_reuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", "one")
    assert main.run("owls").wait() == ["one", "one"]
    monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", "two")
    assert main.run("owls").wait() == ["two", "two"]
    monkeypatch.delenv("KITARU_LLM_MOCK_RESPONSE")
    monkeypatch.setenv("KITARU_MODELS", '{"openai/gpt-4o": "offline"}')
    assert all("mocked" not in text and "two" not in text for text in main.run("owls").wait())
