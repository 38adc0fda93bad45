"""The route through litellm, against a scripted provider on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.llm.scripted import Provider, serving

# Litellm takes seconds to import and warns as it does: one process of its own makes all calls.
CALL = """
import json, os, sys
from kitaru.runtime import failures
from kitaru.runtime.models import ModelRequest, complete
results = {}
for name, environment, request in json.loads(sys.argv[1]):
    for variable in ("OPENAI_API_BASE", "OPENAI_API_KEY"):
        os.environ.pop(variable, None)
    os.environ.update(environment)
    try:
        results[name] = complete(ModelRequest(**request))[1]
    except Exception as error:
        again = failures.decode_exception(failures.encode_exception(error))
        results[name] = {
            "type": type(error).__name__, "again": type(again).__name__,
            "text": str(error), "help": getattr(error, "help", ""),
        }
import litellm
results["callbacks"] = litellm.callbacks + litellm.success_callback + litellm.failure_callback
sys.stdout.write(json.dumps(results))
"""
REQUEST = {"prompt": "Say hello", "model": "openai/scripted"}
SHAPED = {**REQUEST, "system": "Be brief", "temperature": 0.5, "max_tokens": 9}


@dataclass
class Outcome:
    results: dict[str, Any]
    provider: Provider


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    script = [(200, "first"), (200, "second"), (500, "overloaded"), (429, "slow"), (401, "bad key")]
    with serving(script) as provider:
        here = {"OPENAI_API_BASE": provider.url, "OPENAI_API_KEY": "none-needed"}
        calls = [
            ("plain", here, REQUEST),
            ("shaped", here, SHAPED),
            ("overloaded", here, REQUEST),
            ("limited", here, REQUEST),
            ("refused", here, REQUEST),
            ("no key", {"OPENAI_API_BASE": provider.url}, REQUEST),
            ("no other key", {}, {"prompt": "x", "model": "anthropic/claude-sonnet-4-0"}),
        ]
        kept = ("PATH", "HOME", "LANG", "SYSTEMROOT")
        done = subprocess.run(
            [sys.executable, "-c", CALL, json.dumps(calls)],
            env={name: os.environ[name] for name in kept if name in os.environ},
            cwd=tmp_path_factory.mktemp("litellm"),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    # Nothing but the document: litellm's own talk on stdout would break `--json`.
    return Outcome(json.loads(done.stdout), provider)


def test_an_answer_and_what_is_kept_of_it(outcome: Outcome) -> None:
    plain = outcome.results["plain"]
    assert plain["response"] == "first" and plain["resolved"] == "openai/scripted"
    assert plain["tokens"] == {"prompt": 7, "completion": 3} and plain["cost"] is None
    assert plain["latency_s"] > 0 and plain["prompt"] == "Say hello"
    assert outcome.results["shaped"]["response"] == "second"


def test_what_the_provider_is_sent(outcome: Outcome) -> None:
    plain, shaped = outcome.provider.requests[:2]
    assert plain["messages"] == [{"role": "user", "content": "Say hello"}]
    assert plain["path"] == "/v1/chat/completions" and "temperature" not in plain
    assert shaped["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (shaped["temperature"], shaped["max_tokens"]) == (0.5, 9)


def test_errors_keep_their_type_and_are_not_tried_again(outcome: Outcome) -> None:
    for name, kind, text in (
        ("overloaded", "InternalServerError", "overloaded"),
        ("limited", "RateLimitError", "slow"),
        ("refused", "AuthenticationError", "bad key"),
    ):
        found = outcome.results[name]
        assert found["type"] == found["again"] == kind and text in found["text"]
    assert len(outcome.provider.requests) == 5


@pytest.mark.parametrize(
    ("name", "variable"), [("no key", "OPENAI_API_KEY"), ("no other key", "ANTHROPIC_API_KEY")]
)
def test_a_missing_credential_is_named(outcome: Outcome, name: str, variable: str) -> None:
    found = outcome.results[name]
    assert found["type"] == "EnvironmentFailure"
    assert variable in found["text"] and f"export {variable}=" in found["help"]


def test_callbacks_stay_off(outcome: Outcome) -> None:
    assert outcome.results["callbacks"] == []
