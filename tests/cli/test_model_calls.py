"""Model calls on the command line: shown, summed, and read as artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.llm.scripted import Provider, Says, serving

from .conftest import Kitaru

FLOW = """
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def research(topic: str) -> str:
    return kitaru.llm(f"Research: {topic}", model="fast", system="Be brief.")


@checkpoint(retries=1)
def check(text: str) -> str:
    first = kitaru.llm("First", model="fast")
    second = kitaru.llm("Second", model="priced")
    if not hasattr(kitaru, "tried"):
        kitaru.tried = True
        raise RuntimeError("again")
    return first + second


@flow
def asks(topic: str) -> list[str]:
    return [research(topic), check(topic), kitaru.llm("In the body", model="fast", name="body")]
"""


class Asked:
    def __init__(self, kitaru: Kitaru, provider: Provider) -> None:
        kitaru.write("asks.py", FLOW)
        house = {"model": "openai/house", "api_base": provider.url}
        priced = {"model": "openai/gpt-4o", "api_base": provider.url}
        kitaru.environ["KITARU_MODELS"] = json.dumps({"fast": house, "priced": priced})
        kitaru.environ["OPENAI_API_KEY"] = "k"
        done = kitaru("run", "asks.py", "-i", "topic=tea", "--json")
        self.kitaru, self.exec_id = kitaru, str(done.document["exec_id"])

    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.kitaru(
            "executions", "calls", self.exec_id, "--json"
        ).document["items"]
        return found


@pytest.fixture
def asked(kitaru: Kitaru) -> Asked:
    said = ["a brief", "one", "two", "three", "four", "at last"]
    with serving([Says(text) for text in said]) as provider:
        return Asked(kitaru, provider)


def test_every_call_with_all_that_is_known_of_it(asked: Asked) -> None:
    calls = asked.calls()
    told = [(c["invocation"], c["call"], c["attempt"], c["response"]) for c in calls]
    assert told == [
        ("research", 1, 0, "a brief"),
        ("check", 1, 0, "three"),
        ("check", 2, 0, "four"),
        ("body", 1, 0, "at last"),
        ("check", 1, 1, "one"),
        ("check", 2, 1, "two"),
    ]
    first = calls[0]
    assert first["prompt"] == "Research: tea" and first["system"] == "Be brief."
    assert (first["asked"], first["resolved"]) == ("fast", "openai/house")
    assert first["tokens"] == {"prompt": 7, "completion": 3} and first["cost"] is None
    assert first["latency_s"] > 0 and first["made_here"] and calls[2]["cost"] > 0


def test_get_shows_them_and_its_document_has_them(asked: Asked) -> None:
    shown = asked.kitaru("executions", "get", asked.exec_id)
    [line] = [line for line in shown.out.splitlines() if line.startswith("  ◦ research ")]
    assert "openai/house" in line and "7 + 3 tokens" in line
    assert "Research: tea" in shown.out and "a brief" in shown.out
    assert "check, attempt 1, call 2" in shown.out and "$0.0000" in shown.out
    document = asked.kitaru("executions", "get", asked.exec_id, "--json").document
    assert document["calls"] == asked.calls()


def test_the_whole_texts_of_one_invocation(asked: Asked) -> None:
    shown = asked.kitaru("executions", "calls", asked.exec_id, "research").out
    assert shown.splitlines()[1:] == [
        "  system", "    Be brief.", "  prompt", "    Research: tea", "  response", "    a brief",
    ]  # fmt: skip
    error = asked.kitaru("executions", "calls", asked.exec_id, "none", "--json", code=2).error
    assert "body, check, research" in error["help"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("research/call-1/prompt", "Research: tea"),
        ("research/call-1/response", "a brief"),
        ("check/call-2/response", "four"),
        ("check/attempt-1/call-2/response", "two"),
    ],
)
def test_texts_are_artifacts(asked: Asked, name: str, text: str) -> None:
    listed = asked.kitaru("artifacts", "list", asked.exec_id, "--json").document["items"]
    assert name in [item["name"] for item in listed]
    assert asked.kitaru("artifacts", "get", asked.exec_id, name).out == f"{text}\n"


def test_usage_is_summed(asked: Asked) -> None:
    document = asked.kitaru("model", "usage", "--since", "7d", "--json").document
    priced, house = document["items"]
    assert (priced["name"], priced["calls"], priced["unpriced"]) == ("openai/gpt-4o", 2, 0)
    assert (house["name"], house["calls"], house["unpriced"]) == ("openai/house", 4, 4)
    total = document["total"]
    assert (total["calls"], total["requests"]) == (6, 6)
    assert (total["prompt_tokens"], total["completion_tokens"]) == (42, 18)
    assert total["cost"] == pytest.approx(priced["cost"]) and total["cost"] > 0
    for by, name in (("flow", "asks"), ("execution", asked.exec_id)):
        [one] = asked.kitaru("model", "usage", "--since", "7d", "--by", by, "--json").document[
            "items"
        ]
        assert (one["name"], one["calls"]) == (name, 6)
    none = asked.kitaru("model", "usage", "--since", "7d", "--flow", "other", "--json").document
    assert none["items"] == [] and none["total"]["calls"] == 0


def test_usage_for_people(asked: Asked) -> None:
    done = asked.kitaru("model", "usage", "--since", "1h")
    assert "openai/gpt-4o" in done.out and "total" in done.out
    assert "4 calls without a known price" in done.err


def test_what_was_not_made_again_does_not_count(asked: Asked) -> None:
    changed = ("--from", "body", "--set", "model.fast=offline")
    again = asked.kitaru("executions", "replay", asked.exec_id, *changed, "--json").document[
        "exec_id"
    ]
    document = asked.kitaru("model", "usage", "--since", "7d", "--json").document
    # Of the new execution only the call that the offline model answered.
    assert document["total"]["calls"] == 7
    assert "not made again" in asked.kitaru("executions", "calls", again).out


def test_without_any_call(kitaru: Kitaru, tmp_path: Path) -> None:
    kitaru.write("plain.py", "from kitaru import flow\n@flow\ndef plain() -> int:\n    return 1\n")
    exec_id = kitaru("run", "plain.py", "--json").document["exec_id"]
    assert kitaru("executions", "calls", exec_id).out == "no model calls\n"
    empty = kitaru("model", "usage", "--since", "7d").out
    assert "0" in empty
