"""Runs one flow for real in two ways: here, and as the emitted document; says what each left.

Real are the engine, the store and, for a document, the processes of its steps.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru_compiler import compile_flow
from kitaru_targets import build, dry_run, registry

from kitaru.client import KitaruClient
from kitaru.wire.plan import Granularity
from tests.waiting import attempts

Answer = Callable[[str], Any]
TRACE = """
def trace(event):
    import os
    with open(os.environ["TRACE_OF_FLOW"], "a") as file:
        file.write(repr(event) + "\\n")
"""


@dataclass
class Ran:
    """What a run left behind; `steps` are the processes it took, which no two ways share."""

    status: str
    result: Any
    error: tuple[str, str] | None
    invocations: list[tuple[Any, ...]]
    trace: str
    steps: int = field(default=0, compare=False)


def run_here(path: Path, flow: str, inputs: Mapping[str, Any], answer: Answer, folder: Path) -> Ran:
    """Run the flow in this process; `answer` gives the answer to a wait by its id."""
    trace = _traced(folder / "local.txt")
    url = f"sqlite:{folder / 'local.db'}"
    handle = getattr(loaded(path), flow).options(store=url, cache=False).run(**inputs)
    client = KitaruClient(url)
    for _ in attempts():
        if handle.settle(60) != "waiting":
            break
        for wait in client.executions.get(handle.exec_id).waits:
            client.executions.input(handle.exec_id, answer(wait.name), wait=wait.name)
    return _ran(url, handle.exec_id, trace)


def run_dry(
    path: Path,
    flow: str,
    inputs: Mapping[str, Any],
    answer: Answer,
    folder: Path,
    target: str,
    granularity: Granularity = "checkpoint",
) -> Ran:
    """Compile the flow for `target` and execute the document."""
    folder = folder / f"{target}-{granularity}"
    folder.mkdir()
    trace = _traced(folder / "dry.txt")
    chosen = registry.get(target)
    compiled = compile_flow(path, flow, profile=chosen.profile, granularity=granularity)
    written = build.write(compiled, chosen, folder / "build")
    url = f"sqlite:{folder / 'dry.db'}"
    started: list[dry_run.Ended] = []

    def play(**given: Any) -> str:
        return dry_run.run(written, inputs=inputs, store_url=url, report=started.append, **given)

    exec_id = play(answers={})
    client = KitaruClient(url)
    for _ in attempts():
        if not (waits := client.executions.get(exec_id).waits):
            break
        play(answers={wait.name: answer(wait.name) for wait in waits}, exec_id=exec_id)
    ran = _ran(url, exec_id, trace)
    ran.steps = len(started)
    return ran


def loaded(path: Path) -> Any:
    """Import the module at `path`, and those beside it as it asks for them, anew."""
    beside = {file.stem for file in path.parent.glob("*.py")}
    for name in beside & set(sys.modules):
        del sys.modules[name]
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def _traced(file: Path) -> Path:
    file.touch()
    os.environ["TRACE_OF_FLOW"] = str(file)
    return file


def _ran(url: str, exec_id: str, trace: Path) -> Ran:
    view = KitaruClient(url).executions.get(exec_id)
    document = view.to_dict()
    error = document["error"]
    # Code between checkpoints runs again when a failed step is retried, and when a wait inside a
    # region, or with a variable that cannot cross, restarts at the last frame.
    once = document["status"] == "completed" and all(r.kind != "wait" for r in view.invocations)
    return Ran(
        status=document["status"],
        result=document["result"],
        error=error and (error["type"], error["message"]),
        # A caught failure is sealed by what comes next, be it a cut: a flow that fails in between
        # has it as an attempt in one run, as a record in the other.
        # By id: what runs side by side starts in any order.
        invocations=sorted(
            (r.id, r.kind, r.callee, r.status, r.arguments_digest, r.position, r.uses)
            for r in view.invocations
            if r.status == "completed" or document["status"] == "completed"
        ),
        trace=trace.read_text() if once else "",
    )
