"""Output of real processes: of a document's steps, of a run that is killed, on the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, dry_run, registry

from kitaru.client import KitaruClient
from tests.cli.conftest import Kitaru, kitaru

__all__ = ["kitaru"]

FLOW = """
import logging, sys
from kitaru import checkpoint, flow

@checkpoint
def first(text: str) -> str:
    print("says", text)
    return text

@checkpoint
def second(text: str) -> str:
    sys.stdout.write("no line end")
    logging.getLogger("mine").warning("look out")
    raise ValueError(text)

@flow
def main(text: str):
    given = first(text)
    print("between")
    second(given)
"""
SLOW = """
import sys, time
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def stays() -> None:
    print("it began")
    time.sleep(600)

@flow
def main():
    stays()

if __name__ == "__main__":
    main.options(store=sys.argv[1], exec_id="killed").run().wait()
"""
KEPT = [
    ("first", "stdout", "says hello"),
    ("", "stdout", "between"),
    ("second", "stderr", "look out"),
    ("second", "stdout", "no line end"),
]


@pytest.mark.parametrize("target", ["kubeflow", "airflow"])
def test_the_steps_of_a_document(tmp_path: Path, target: str) -> None:
    (tmp_path / "talks.py").write_text(FLOW)
    chosen = registry.get(target)
    compiled = compile_flow(tmp_path / "talks.py", "main", profile=chosen.profile)
    written = build.write(compiled, chosen, tmp_path / "build")
    url, ended = f"sqlite:{tmp_path / 'k.db'}", []
    exec_id = dry_run.run(
        written, inputs={"text": "hello"}, store_url=url, report=ended.append, answers={}
    )
    found = KitaruClient(url).executions.logs(exec_id)
    lines = [(line.invocation, line.stream, line.text) for line in found]
    assert sorted(line for line in lines if line in KEPT) == sorted(KEPT)
    assert any(text.endswith("ValueError: hello") for _, _, text in lines)
    # A container's own log has it all as well.
    shown = "".join(one.log for one in ended)
    assert "says hello\n" in shown and "look out\n" in shown and "no line end" in shown


def test_what_a_killed_process_had_written_down_stays(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    url = f"sqlite:{tmp_path / 'k.db'}"
    process = subprocess.Popen(
        [sys.executable, "slow.py", url], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:
        texts: list[str] = []
        limit = time.monotonic() + 60
        while not texts and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.1)
            texts = _texts(url, tmp_path)
    finally:
        process.kill()
        process.wait()
    assert texts == _texts(url, tmp_path) == ["it began"]


def _texts(url: str, folder: Path) -> list[str]:
    if not (folder / "k.db").exists():
        return []
    client = KitaruClient(url)
    known = [item["exec_id"] for item in client.executions.list()]
    return [line.text for line in client.executions.logs("killed")] if known else []


def test_the_command_line(kitaru: Kitaru) -> None:
    kitaru.write("talks.py", FLOW)
    kitaru("run", "talks.py", "--input", "text=hello", "--json", code=1)
    [item] = kitaru("executions", "list", "--json").document["items"]
    document = kitaru("executions", "logs", item["exec_id"], "--json").document
    items = [(one["invocation"], one["stream"], one["text"]) for one in document["items"]]
    assert sorted(items) == sorted(KEPT) and document["count"] == 4
    shown = kitaru("executions", "logs", item["exec_id"], "--invocation", "first", "--follow").out
    assert shown.endswith("  first  says hello\n") and shown.count("\n") == 1
    both = kitaru("executions", "logs", item["exec_id"], "--follow", "--json", code=2)
    assert "exclude each other" in both.error["message"]
    missing = kitaru("executions", "logs", "nobody", "--json", code=2)
    assert "no execution" in missing.error["message"]
