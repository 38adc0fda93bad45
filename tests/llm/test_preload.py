"""Importing the library of a model: begun early, waited for where needed, nobody's time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.runtime.llm import preload, providers

NAMED: dict[str, Any] = {}


@checkpoint(cache=False)
def asks_slow(topic: str) -> str:
    return kitaru.llm(f"Research {topic} and/or more", model="anthropic/claude-sonnet-4-0")


@checkpoint(cache=False)
def asks_fast(topic: str) -> str:
    return kitaru.llm(topic, model="openai/gpt-4o")


@checkpoint(cache=False)
def asks_alias(topic: str) -> str:
    return kitaru.llm(topic, model="house")


@checkpoint(cache=False)
def asks_nobody(topic: str) -> str:
    return topic.upper() + "vendor/model"


def helper(topic: str) -> str:
    return asks_slow(topic)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    loaded: list[str] = []
    monkeypatch.setattr(preload, "_thread", None)
    monkeypatch.setattr(providers, "load", lambda resolved: loaded.append(resolved.model))
    monkeypatch.setenv("KITARU_MODELS", '{"house": "vendor/house"}')
    yield loaded


def flow_of_fast(topic: str) -> list[str]:
    return [asks_fast(topic), asks_nobody(topic)]


def flow_of_slow(topic: str) -> list[str]:
    return [asks_nobody(topic), helper(topic)]


def flow_of_alias(topic: str) -> str:
    return asks_alias(topic)


def flow_of_default(topic: str) -> str:
    return kitaru.llm(topic)


@pytest.mark.parametrize(
    ("body", "default", "expected"),
    [
        (flow_of_fast, "fast", []),
        (flow_of_slow, "fast", ["anthropic/claude-sonnet-4-0"]),
        (flow_of_alias, "fast", ["vendor/house"]),
        (flow_of_default, "fast", []),
        (flow_of_default, "house", ["vendor/house"]),
        (flow_of_default, "openai/gpt-4o", []),
    ],
)
def test_only_what_the_flow_needs_is_imported_early(
    fresh: list[str],
    monkeypatch: pytest.MonkeyPatch,
    body: Any,
    default: str,
    expected: list[str],
) -> None:
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", default)
    preload.start(body)
    if preload._thread is not None:
        preload._thread.join(60)
    assert fresh == expected


def test_a_checkpoint_that_asks_waits_for_the_import_and_no_other_does(
    fresh: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go, order = threading.Event(), list[str]()

    def load(resolved: Any) -> None:
        go.wait(60)
        order.append("loaded")

    monkeypatch.setattr(providers, "load", load)
    preload.start(flow_of_slow)
    preload.finish(asks_nobody.function)
    order.append("another checkpoint")
    go.set()
    preload.finish(asks_slow.function)
    order.append("the one that asks")
    assert order == ["another checkpoint", "loaded", "the one that asks"]


def test_the_import_is_not_time_of_the_checkpoint(
    fresh: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = {"begun": 0.0, "passed": 0.0}
    clock = time.perf_counter

    def load(resolved: Any) -> None:
        moments.update(begun=time.time(), passed=1000.0)

    def answer(request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        return providers.Answer("text", 1, 1, None)

    monkeypatch.setattr(providers, "load", load)
    monkeypatch.setattr(providers, "_reach", answer)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + moments["passed"])

    @flow
    def asks() -> str:
        return NAMED["checkpoint"]("tea")  # type: ignore[no-any-return]

    NAMED["checkpoint"] = asks_alias
    handle = asks.run()
    handle.wait(60)
    view = KitaruClient().executions.get(handle.exec_id)
    [record] = view.invocations
    # The clock of the record starts when the import has ended.
    from datetime import datetime

    started = datetime.fromisoformat(record.started_at).timestamp()
    assert started >= moments["begun"] + 900
    assert record.calls[0]["latency_s"] < 900


def test_a_proxy_in_the_globals_is_left_alone() -> None:
    class Proxy:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("outside of its context")

    scope: dict[str, Any] = {"current": Proxy(), "kitaru": kitaru}
    exec("def body(x):\n    return current and kitaru.llm(x)\n", scope)
    preload.start(scope["body"])


def test_running_a_flow_imports_nothing_of_models(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "from kitaru import checkpoint, flow\n"
        "@checkpoint\ndef one(x: int) -> int:\n    return x\n"
        "@flow\ndef plain(x: int) -> int:\n    return one(x)\n"
    )
    program = (
        "import sys, plain\n"
        "plain.plain.run(1).wait()\n"
        "print([m for m in ('httpx', 'genai_prices', 'litellm', 'pydantic') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "OSError"])
def test_an_import_that_failed_half_way_is_begun_anew(error: str, tmp_path: Path) -> None:
    package = tmp_path / "litellm"
    package.mkdir()
    (package / "utils.py").write_text("")
    (package / "__init__.py").write_text(
        "import os, litellm.utils\n"
        "if os.environ.pop('BREAK', ''):\n"
        f"    raise {error}('no more')\n"
        "litellm.utils\n"
    )
    code = (
        "from kitaru.runtime.llm.litellm_route import load\n"
        f"try:\n    load(None)\nexcept {error}:\n    load(None)\n"
        "print('loaded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False,
        env={"PYTHONPATH": str(tmp_path), "BREAK": "1"},
    )  # fmt: skip
    assert done.stdout == "loaded\n", done.stderr
