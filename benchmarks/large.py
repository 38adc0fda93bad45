"""An execution of 100,000 checkpoints: CPU time and peak memory of each command that reads it.

Every command is a process. The store is a file in memory if possible. It takes a few minutes:

    python3 dev.py bench large
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from checkpoints import SCRATCH
from common import ROOT, Line, cost

import kitaru

CHECKPOINTS = 100_000
# One call in so many asks a model.
MODEL_EVERY = 100
FLOW = f"{Path(__file__).relative_to(ROOT)}:large"
KITARU = str(ROOT / ".venv" / "bin" / "kitaru")
MEMORY = Path("/dev/shm")


@kitaru.checkpoint(cache=False)
def read(number: int) -> dict[str, object]:
    return {"number": number, "text": f"the sentence {number} of many, as a model writes it. " * 3}


@kitaru.checkpoint(cache=False)
def shorten(page: dict[str, object]) -> str:
    return str(page["text"])[:60]


@kitaru.flow(cache=False)
def large(count: int, ask: bool = True) -> int:
    """Make `count` durable calls, a hundredth of them to a model, and then ask for an answer."""
    made = 0
    while made + 2 <= count:
        page = read(made)
        if made % MODEL_EVERY == 0:
            kitaru.llm(f"Shorten page {made}.", name="shortened")
        else:
            shorten(page)
        made += 2
    if ask:
        kitaru.wait(schema=bool, name="approved")
    return made


def commands(exec_id: str, folder: Path) -> Iterator[list[str]]:
    """Yield the commands: those that only read, then those that add to the store."""
    last = f"shorten_{CHECKPOINTS // 2 - CHECKPOINTS // MODEL_EVERY}"
    yield ["executions", "get", exec_id]
    yield ["executions", "get", exec_id, "--json"]
    yield ["executions", "get", exec_id, "--after", last]
    yield ["executions", "list"]
    yield ["executions", "logs", exec_id]
    yield ["executions", "calls", exec_id]
    yield ["executions", "calls", exec_id, f"shortened_{CHECKPOINTS // MODEL_EVERY}"]
    yield ["executions", "lineage", exec_id]
    yield ["executions", "lineage", exec_id, last]
    yield ["executions", "diff", exec_id, exec_id]
    yield ["artifacts", "list", exec_id]
    yield ["artifacts", "get", exec_id, last]
    yield ["model", "usage", "--since", "1d"]
    yield ["store", "check"]
    yield ["store", "verify"]
    yield ["store", "backup", f"sqlite:{folder}/backup.db"]
    yield ["store", "restore", f"sqlite:{folder}/backup.db", "--store", f"sqlite:{folder}/new.db"]
    yield ["executions", "replay", exec_id, "--from", last, "--no-input"]
    yield ["executions", "input", exec_id, "--wait", "approved", "--value", "true"]
    # The replay still waits, and keeps the execution that it was made from.
    yield ["executions", "cancel", "latest"]
    yield ["store", "gc", "--older-than", "0m"]


def lines() -> Iterator[Line]:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else SCRATCH) as folder:
        store = ["--store", f"sqlite:{folder}/kitaru.db"]
        count = ["--input", f"count={CHECKPOINTS}", "--no-input"]
        yield _line(["run", FLOW, *count], store, folder)
        listed = [KITARU, "executions", "list", "--json", *store]
        done = subprocess.run(listed, capture_output=True, text=True, check=True, cwd=ROOT)
        exec_id = json.loads(done.stdout)["items"][0]["exec_id"]
        for command in commands(exec_id, Path(folder)):
            yield _line(command, store if "--store" not in command else [], folder, exec_id)


def _line(command: list[str], store: list[str], folder: str, exec_id: str = "EXEC") -> Line:
    used = cost([KITARU, *command, *store])
    shown = " ".join(command).replace(folder, "DIR").replace(exec_id, "EXEC")
    return Line(shown, f"{used.cpu:.2f} s CPU, {used.memory:.0f} MB", "", None, "")
