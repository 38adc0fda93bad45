"""Both routes to a model, plain HTTP and litellm, against a scripted provider on this machine.

The same cases meet the same provider. `openai/…` goes by HTTP, `deepseek/…`, of the same
protocol, goes through litellm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.llm.scripted import Provider, Says, serving

ROUTES = {"http": "openai", "litellm": "deepseek"}
# Without a key, a provider that refuses before anything is sent.
KEYLESS = {"http": "gpt-4o", "litellm": "anthropic/claude-sonnet-4-0"}
REQUEST = {"prompt": "Say hello", "model": "PROVIDER/scripted"}
ONCE = {**REQUEST, "retries": 0}
STREAM = {**REQUEST, "stream": True}
SHAPED = {**REQUEST, "system": "Be brief", "temperature": 0.5, "max_tokens": 9}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"title": "A b", "type": "object", "properties": {}}
SLOW = Says("slow down", 429)
NEVER = formatdate(0, usegmt=True)


@dataclass
class Case:
    """A request and the script it meets, both to be looked at afterwards by the case's name."""

    script: list[Says]
    request: dict[str, Any] = field(default_factory=lambda: REQUEST)
    variables: dict[str, str] = field(default_factory=lambda: {"PROVIDER_API_KEY": "none-needed"})


CASES = {
    "plain": Case([Says("first")]),
    "shaped": Case([Says("second")], SHAPED),
    "template": Case([Says("as it is")], {**REQUEST, "prompt": "{0.__class__} {x!r} %s {{"}),
    "overloaded": Case([Says("overloaded", 500)], ONCE),
    "limited": Case([SLOW], ONCE),
    "refused": Case([Says("bad key", 401)]),
    "again": Case([SLOW, Says("busy", 503), Says("third time")]),
    "lost": Case([Says(lost=True), Says("back")]),
    "empty": Case([Says(empty=True), Says("something")]),
    "timeout": Case([Says(silent=True), Says("in time")], {**REQUEST, "timeout": 5.0}),
    "given up": Case([SLOW] * 3),
    "at its pace": Case([Says("slow", 429, after="7"), Says("busy", 503, after=NEVER), Says("k")]),
    "much later": Case([Says("tomorrow", 429, after="86400")]),
    "wrong": Case([Says("no such field", 400)]),
    "stream": Case([Says("piece by piece")], STREAM),
    "stream again": Case([SLOW, Says("at last")], STREAM),
    "cut short": Case([Says("half of it", lost=True)], STREAM),
    "tools": Case([Says("", calls=(("look", '{"at": 1}'),))], {**REQUEST, "tools": [TOOL]}),
    "tools stream": Case([Says("so", calls=(("look", "{}"),))], {**STREAM, "tools": [TOOL]}),
    "schema": Case([Says("{}")], {**REQUEST, "schema": SCHEMA}),
}


@dataclass
class Outcome:
    provider: str
    results: dict[str, dict[str, Any]]
    providers: dict[str, Provider]

    def of(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return self.results[name], self.providers[name].requests


@pytest.fixture(scope="module", params=ROUTES)
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("calls")
    provider = ROUTES[request.param]
    with ExitStack() as stack:
        providers = {name: stack.enter_context(serving(c.script)) for name, c in CASES.items()}
        calls: list[list[Any]] = [
            [name, {"PROVIDER_API_BASE": providers[name].url, **case.variables}, case.request]
            for name, case in CASES.items()
        ]
        calls.append(["no other key", {}, {"prompt": "x", "model": KEYLESS[request.param]}])
        linked, calls_linked = _linked(stack, folder)
        named = json.dumps([*calls, *calls_linked]).replace("PROVIDER/", f"{provider}/")
        named = named.replace("PROVIDER_", f"{provider.upper()}_")
        yield Outcome(provider, _made(named, folder), providers | linked)


def _linked(stack: ExitStack, folder: Path) -> tuple[dict[str, Provider], list[list[Any]]]:
    """Return what asks models whose address and key the configuration refers to."""
    key = folder / "key"
    key.write_text("of-a-file\n")
    cases = {
        "of a variable": ("TEAM_KEY", {"TEAM_KEY": "of-a-variable"}),
        "of a file": ("FILE_KEY", {"KITARU_SECRETS": json.dumps({"FILE_KEY": f"file:{key}"})}),
        "own first": ("TEAM_KEY", {"PROVIDER_API_KEY": "own-key"}),
        "nothing there": ("NO_SUCH_KEY", {}),
        "as a secret": ("", {"KITARU_SECRETS": json.dumps({"PROVIDER_API_KEY": f"file:{key}"})}),
    }
    providers, calls = {}, []
    for name, (secret, variables) in cases.items():
        provider = providers[name] = stack.enter_context(serving([Says("linked")]))
        model = {"model": "PROVIDER/scripted", "api_base": provider.url}
        model |= {"secret": secret} if secret else {}
        configured = {"KITARU_MODELS": json.dumps({"team": model}), **variables}
        calls.append([name, configured, {"prompt": "x", "model": "team"}])
    metadata = {"model": "PROVIDER/m", "api_base": "http://169.254.169.254/latest"}
    configured = {"KITARU_MODELS": json.dumps({"team": metadata}), "PROVIDER_API_KEY": "k"}
    calls.append(["metadata", configured, {"prompt": "x", "model": "team"}])
    elsewhere = {"PROVIDER_API_BASE": "http://169.254.169.254/latest", "PROVIDER_API_KEY": "k"}
    calls.append(["metadata by variable", elsewhere, {"prompt": "x", "model": "PROVIDER/gpt-4o"}])
    return providers, calls


def _made(calls: str, folder: Path) -> dict[str, Any]:
    kept = ("PATH", "HOME", "LANG", "SYSTEMROOT", "PYTHONPATH")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("calls.py"), calls],
        env={name: os.environ[name] for name in kept if name in os.environ},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Only the document: output of litellm on stdout would break `--json`.
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_answer_and_what_is_known_of_it(outcome: Outcome) -> None:
    plain, _ = outcome.of("plain")
    assert plain["response"] == "first" and plain["resolved"] == f"{outcome.provider}/scripted"
    assert plain["tokens"] == {"prompt": 7, "completion": 3} and plain["cost"] is None
    assert plain["latency_s"] > 0 and plain["prompt"] == "Say hello"
    assert (plain["tries"], plain["finish"]) == (1, "stop")


def test_what_the_provider_is_sent(outcome: Outcome) -> None:
    [plain], [shaped] = outcome.of("plain")[1], outcome.of("shaped")[1]
    assert plain["messages"] == [{"role": "user", "content": "Say hello"}]
    assert plain["path"] == "/v1/chat/completions" and plain["model"] == "scripted"
    assert "temperature" not in plain
    assert "stream" not in plain and "tools" not in plain and "response_format" not in plain
    assert shaped["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (shaped["temperature"], shaped["max_tokens"]) == (0.5, 9)


def test_a_prompt_is_never_formatted(outcome: Outcome) -> None:
    [sent] = outcome.of("template")[1]
    assert sent["messages"][0]["content"] == "{0.__class__} {x!r} %s {{"


@pytest.mark.parametrize(
    ("name", "status", "text", "requests"),
    [
        ("overloaded", 500, "overloaded", 1),
        ("limited", 429, "slow", 1),
        ("refused", 401, "bad key", 1),
        ("wrong", 400, "no such field", 1),
        ("given up", 429, "slow", 3),
        ("much later", 429, "tomorrow", 1),
    ],
)
def test_a_refusal_has_one_type_and_its_status(
    outcome: Outcome, name: str, status: int, text: str, requests: int
) -> None:
    found, sent = outcome.of(name)
    assert found["type"] == found["again"] == "ModelRequestError" and text in found["text"]
    assert found["status"] == status and str(status) in found["text"]
    assert len(sent) == requests


def test_the_error_has_no_frames_of_a_library(outcome: Outcome) -> None:
    found, _ = outcome.of("overloaded")
    assert found["frames"] == [] and found["cause"] is None


@pytest.mark.parametrize(
    ("name", "text", "tries"),
    [
        ("again", "third time", 3),
        ("lost", "back", 2),
        ("timeout", "in time", 2),
        ("empty", "something", 2),
    ],
)
def test_what_may_pass_is_tried_again(outcome: Outcome, name: str, text: str, tries: int) -> None:
    found, sent = outcome.of(name)
    assert found["response"] == text and found["tries"] == len(sent) == tries
    # At random between half and the whole of one second, then of two.
    longest = [1.0, 2.0][: tries - 1]
    assert all(n / 2 <= p <= n for n, p in zip(longest, found["pauses"], strict=True))


def test_the_provider_sets_the_pace(outcome: Outcome) -> None:
    first, second = outcome.of("at its pace")[0]["pauses"]
    assert first == 7 and 1 <= second <= 2


def test_a_missing_credential_is_named(outcome: Outcome) -> None:
    found = outcome.results["no other key"]
    variable = {"openai": "OPENAI_API_KEY"}.get(outcome.provider, "ANTHROPIC_API_KEY")
    assert found["type"] == "EnvironmentFailure"
    assert variable in found["text"] and f"export {variable}=" in found["help"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("of a variable", "of-a-variable"),
        ("of a file", "of-a-file"),
        ("own first", "own-key"),
        ("as a secret", "of-a-file"),
    ],
)
def test_a_key_by_reference(outcome: Outcome, name: str, key: str) -> None:
    found, [sent] = outcome.of(name)
    assert found["response"] == "linked" and sent["key"] == f"Bearer {key}"


def test_a_reference_to_nothing_names_both(outcome: Outcome) -> None:
    found, sent = outcome.of("nothing there")
    assert found["type"] == "EnvironmentFailure" and not sent
    assert f"{outcome.provider.upper()}_API_KEY" in found["text"] and "NO_SUCH_KEY" in found["text"]


@pytest.mark.parametrize("name", ["metadata", "metadata by variable"])
def test_metadata_is_not_asked(outcome: Outcome, name: str) -> None:
    found = outcome.results[name]
    assert found["type"] == "UsageError" and "metadata address" in found["text"]


def test_pieces_are_handed_on_as_they_come(outcome: Outcome) -> None:
    found, [sent] = outcome.of("stream")
    assert found["pieces"] == ["piece ", "by ", "piece"]
    assert found["response"] == "piece by piece"
    assert found["tokens"] == {"prompt": 7, "completion": 3}
    assert sent["stream"] is True and sent["stream_options"] == {"include_usage": True}


def test_a_stream_that_has_not_begun_is_tried_again(outcome: Outcome) -> None:
    found, sent = outcome.of("stream again")
    assert found["pieces"] == ["at ", "last"] and len(sent) == found["tries"] == 2


def test_half_an_answer_is_none(outcome: Outcome) -> None:
    found, sent = outcome.of("cut short")
    assert found["type"] == "ModelRequestError" and "middle of the answer" in found["text"]
    # It was handed on: made again, the beginning would be seen twice.
    assert found["pieces"] == ["half "] and len(sent) == 1


@pytest.mark.parametrize(("name", "arguments"), [("tools", '{"at": 1}'), ("tools stream", "{}")])
def test_tool_calls(outcome: Outcome, name: str, arguments: str) -> None:
    found, [sent] = outcome.of(name)
    assert sent["tools"] == [TOOL]
    assert found["tool_calls"] == [{"id": "call_0", "name": "look", "arguments": arguments}]


def test_a_schema_is_told_to_the_provider(outcome: Outcome) -> None:
    [sent] = outcome.of("schema")[1]
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "A_b", "schema": SCHEMA},
    }


def test_nobody_listens(outcome: Outcome) -> None:
    if outcome.provider == "openai":
        assert outcome.results["left"] == {"imported": False}
    else:
        silent = {"callbacks": 0, "verbose": False, "debug": False}
        assert outcome.results["left"] == {"imported": True, **silent}


def test_nothing_but_the_model_is_asked_over_the_network(outcome: Outcome) -> None:
    assert set(outcome.results["hosts"]) <= {"127.0.0.1", "169.254.169.254"}
