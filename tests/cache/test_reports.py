"""Reports of stale results: code without a file, settings read at import, mocks of tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from kitaru import KitaruClient
from kitaru.runtime.steps.modules import import_file


@pytest.fixture(autouse=True)
def _one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'k.db'}")
    monkeypatch.setenv("KITARU_CACHE", "true")
    path = list(sys.path)
    yield
    sys.modules.pop("reported", None)
    sys.path[:] = path


def fresh(source: str) -> ModuleType:
    """Import the source as a process that starts now does."""
    sys.modules.pop("reported", None)
    file = Path("reported.py")
    if not file.exists() or file.read_text() != source:
        file.write_text(source)
    return import_file(file)


def cached(exec_id: str) -> bool:
    invocations = KitaruClient().executions.get(exec_id).invocations
    return any(one.cached_from for one in invocations)


SCRIPT = """
from kitaru import checkpoint, flow

@checkpoint
def greet(name: str) -> str:
    return "WORD " + name

@flow
def main(name: str) -> str:
    return greet(name)

print(main.run("tea").wait())
"""


@pytest.mark.parametrize("how", ["stdin", "-c"])
def test_code_without_a_file_is_never_served_from_the_cache(how: str) -> None:
    said = []
    for word in ("one", "two"):
        source = SCRIPT.replace("WORD", word)
        words = ["-"] if how == "stdin" else ["-c", source]
        done = subprocess.run(
            [sys.executable, *words], input=source if how == "stdin" else "",
            capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
        said.append(done.stdout.strip())
    assert said == ["one tea", "two tea"]


AT_IMPORT = """
import json
import os
from pathlib import Path
from kitaru import checkpoint, flow

HERE = Path(__file__).parent
MODEL = os.environ.get("AGENT_MODEL", "small")
PROMPT = (HERE / "prompt.md").read_text().strip()
SETTINGS = json.loads((HERE / "settings.json").read_text())

@checkpoint
def ask(question: str, model: str = MODEL) -> str:
    return f"{model} {MODEL} {PROMPT} {SETTINGS['t']} {question}"

@flow
def main(question: str) -> str:
    return ask(question)
"""


def test_files_and_variables_read_at_import_are_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, settings = tmp_path / "prompt.md", tmp_path / "settings.json"
    prompt.write_text("brief")
    settings.write_text('{"t": 0}')

    def answer() -> tuple[str, bool]:
        handle = fresh(AT_IMPORT).main.run("why")
        return handle.wait(), cached(handle.exec_id)

    assert answer() == ("small small brief 0 why", False)
    assert answer() == ("small small brief 0 why", True)
    prompt.write_text("long")
    assert answer() == ("small small long 0 why", False)
    settings.write_text('{"t": 1}')
    assert answer() == ("small small long 1 why", False)
    monkeypatch.setenv("AGENT_MODEL", "large")
    assert answer() == ("large large long 1 why", False)
    monkeypatch.delenv("AGENT_MODEL")
    prompt.write_text("brief")
    settings.write_text('{"t": 0}')
    assert answer() == ("small small brief 0 why", True)


AGENT = """
from kitaru import checkpoint, flow

def fetch_price(symbol: str) -> float:
    return 1.0

class Client:
    def get(self, name: str) -> str:
        return "real"

client = Client()

@checkpoint
def price(symbol: str) -> float:
    return fetch_price(symbol)

@checkpoint
def ask(name: str) -> str:
    return client.get(name)

@checkpoint
async def slow(name: str) -> str:
    return "async " + name

@flow
def main(symbol: str) -> list:
    return [price(symbol), ask(symbol), slow(symbol)]
"""
REAL = [1.0, "real", "async X"]


def patched_function(agent: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent, "fetch_price", lambda symbol: 2.0)


def patched_object(agent: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.client, "get", lambda name: "fake")


def patched_class(agent: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.Client, "get", lambda self, name: "of the class")


def mocked_function(agent: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent, "fetch_price", mock.Mock(return_value=3.0))


def mocked_client(agent: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent, "client", mock.Mock(**{"get.return_value": "mocked"}))


def automatic_mock(agent: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent, "fetch_price", mock.create_autospec(agent.fetch_price, return_value=4.0))


DOUBLES: dict[Callable[[Any, pytest.MonkeyPatch], None], list[Any]] = {
    patched_function: [2.0, "real", "async X"],
    patched_object: [1.0, "fake", "async X"],
    patched_class: [1.0, "of the class", "async X"],
    mocked_function: [3.0, "real", "async X"],
    mocked_client: [1.0, "mocked", "async X"],
    automatic_mock: [4.0, "real", "async X"],
}


@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
def test_a_double_neither_gets_real_results_nor_leaves_its_own(
    double: Callable[[Any, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent: Any = fresh(AGENT)

    def doubled() -> Any:
        with monkeypatch.context() as patch:
            double(agent, patch)
            return agent.main.run("X").wait()

    assert doubled() == DOUBLES[double]
    assert agent.main.run("X").wait() == REAL
    assert doubled() == DOUBLES[double]
    assert agent.main.run("X").wait() == REAL
