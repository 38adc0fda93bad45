"""Which model answers: argument over environment over default; an unconfigured alias is offline."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kitaru
from kitaru import config
from kitaru.errors import ContextError, EnvironmentFailure, UsageError
from kitaru.model_calls import llm
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.llm import litellm_route, openai_http
from kitaru.runtime.llm.model_calls import ask
from kitaru.runtime.llm.models import ModelRequest, resolve, same_models
from kitaru.stores import open_store
from kitaru.wire.models import is_direct
from kitaru.wire.records import InvocationRecord

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    for name in ("KITARU_MODELS", "KITARU_DEFAULT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    config.use_plan({})
    config.configure(redact=None, capture=None)


def test_order_of_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(None).name == "fast"
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", "smart")
    assert resolve(None).name == "smart"
    assert resolve("own").name == "own"


def test_order_of_aliases(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.use_plan({"models": {"fast": "plan/m", "other": "plan/o"}})
    assert resolve("fast").model == "plan/m"
    (elsewhere / "pyproject.toml").write_text('[tool.kitaru.models]\nfast = "project/m"\n')
    assert resolve("fast").model == "project/m"
    monkeypatch.setenv("KITARU_MODELS", json.dumps({"fast": "environment/m"}))
    assert resolve("fast").model == "environment/m"
    assert resolve("other").model == "plan/o"


def test_an_alias_may_stand_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    house = {"model": "openai/h", "api_base": "http://h/v1"}
    chain = {"a": "b", "b": "house", "house": house, "same-1": "same-1", "x": "y", "y": "x"}
    monkeypatch.setenv("KITARU_MODELS", json.dumps(chain))
    found = resolve("a")
    assert (found.name, found.model, found.api_base) == ("a", "openai/h", "http://h/v1")
    assert resolve("same-1").model == "same-1"
    with pytest.raises(UsageError, match="x → y → x are a circle"):
        resolve("x")


@pytest.mark.parametrize("name", ["openai/gpt-4o", "gpt-4o", "command-r", "o1", "a/b:free"])
def test_names_of_models_go_as_they_are(name: str) -> None:
    assert resolve(name).model == name


@pytest.mark.parametrize("name", ["fast", "smart", "deep_thought", "offline"])
def test_unconfigured_aliases_are_offline(name: str) -> None:
    assert resolve(name).model == "offline"


def test_offline_says_so_and_repeats_itself() -> None:
    request = ModelRequest("Research:  tea\nplease", model="writer")
    (answer, kept), (again, _) = ask(request), ask(request)
    text = answer.text
    assert answer == again and "offline model" in text and '"writer"' in text
    assert "Research: tea please" in text
    assert kept["resolved"] == "offline" and kept["model"] == "writer" and kept["cost"] == 0
    assert kept["prompt"] == request.prompt and kept["response"] == text
    assert kept["latency_s"] >= 0 and set(kept["tokens"]) == {"prompt", "completion"}
    assert len(ask(ModelRequest("x" * 10_000))[0].text) < 400


def test_recorded_calls_hold_while_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tuple(ask(ModelRequest("x", model=name))[1] for name in ("fast", None))
    assert same_models(calls) and same_models(())
    monkeypatch.setenv("KITARU_MODELS", json.dumps({"fast": "openai/m"}))
    assert not same_models(calls)


@pytest.mark.parametrize(
    ("model", "package", "command"),
    [
        ("openai/gpt-4o", "httpx", "pip install 'httpx>="),
        ("gpt-4o", "httpx", "'genai-prices>="),
        ("anthropic/claude-sonnet-4-0", "litellm", "pip install 'litellm>="),
    ],
)
def test_without_its_library(
    monkeypatch: pytest.MonkeyPatch, model: str, package: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFailure) as caught:
        ask(ModelRequest("x", model=model))
    assert model in caught.value.message and package in caught.value.message
    assert command in caught.value.help


def test_what_an_error_says_to_install_is_what_the_project_declares() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    assert sorted(openai_http.REQUIREMENTS) == extras["openai"]
    assert sorted([*openai_http.REQUIREMENTS, litellm_route.REQUIREMENT]) == extras["llm"]


@pytest.mark.parametrize(
    ("model", "direct"),
    [
        ("openai/gpt-4o", True),
        ("openai/our/own-model", True),
        ("gpt-4.1-mini", True),
        ("o3", True),
        ("o4-mini", True),
        ("ft:gpt-4o:team::x", True),
        ("chatgpt-4o-latest", True),
        ("openai/responses/gpt-5", False),
        ("openrouter/openai/gpt-4o", False),
        ("azure/gpt-4o", False),
        ("anthropic/claude-sonnet-4-0", False),
        ("ollama/llama3", False),
    ],
)
def test_which_models_go_without_litellm(model: str, direct: bool) -> None:
    assert is_direct(model) is direct


def test_outside_a_flow() -> None:
    with pytest.raises(ContextError, match=r"kitaru\.llm"):
        llm("x")


@pytest.mark.parametrize(
    "arguments",
    [{"prompt": 1}, {"model": 1}, {"system": b""}, {"temperature": "0"}, {"max_tokens": 1.5}],
)
def test_wrong_types(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        llm(**{"prompt": "x", **arguments})  # type: ignore[arg-type]


def test_durable_in_a_body_and_a_child_in_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", "memory:llm-durable")
    handle = asks.run("tea")
    handle.wait(60)
    first, second, third = handle.get()
    assert all("offline model" in text for text in (first, second, third))
    records = {record.id: record for record in _records(handle.exec_id)}
    assert set(records) == {"research", "llm", "title"}
    assert [record.kind for record in records.values()].count("llm") == 2
    assert [len(record.calls) for record in records.values()] == [1, 1, 1]
    assert records["title"].calls[0]["max_tokens"] == 5
    assert records["research"].calls[0]["response"].data == first


def _records(exec_id: str) -> list[InvocationRecord]:
    return Journal.open(open_store(), exec_id).invocations()


@kitaru.checkpoint
def research(topic: str) -> str:
    return kitaru.llm(f"Research: {topic}")


@kitaru.flow
def asks(topic: str) -> list[str]:
    brief = research(topic)
    return [brief, kitaru.llm(brief), kitaru.llm(brief, max_tokens=5, name="title")]
