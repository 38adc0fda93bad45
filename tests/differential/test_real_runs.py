"""Random flows give the same run here and as the emitted document, on the real engine and store.

Slower than the stand-ins of the other tests, since each step is a process: fewer programs, but the
result, the failure, the invocation ids, the argument digests and every effect are compared.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from kitaru_compiler import compile_flow
from kitaru_targets import build, dry_run, registry

from kitaru.client import KitaruClient
from kitaru.stores import open_store
from tests.differential.programs import programs

EXAMPLES = int(os.environ.get("KITARU_REAL_EXAMPLES", "12"))
INPUTS = {"a": 1, "xs": [3, 4]}
ANSWERS = {"ok": True, "no": False, "number": True}
TRACE = """
def trace(event):
    import os
    with open(os.environ["TRACE_OF_FLOW"], "a") as file:
        file.write(repr(event) + "\\n")
"""


@dataclass
class Ran:
    """What a run left behind."""

    status: str
    result: Any
    error: tuple[str, str] | None
    invocations: list[tuple[str, ...]]
    trace: str


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # A step is a process: shrinking would take longer than reading the program.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(source=programs())
def test_a_dry_run_is_the_run(folder: Path, target: str, source: str) -> None:
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)
    source += TRACE
    here = Path(tempfile.mkdtemp(dir=folder))
    path = here / f"program_{here.name.replace('-', '_')}.py"
    path.write_text(source, encoding="utf-8")
    local = _local(path, here)
    dry = _dry(path, here, target)
    assert dry == local, source.partition("def pick")[2]


def _local(path: Path, folder: Path) -> Ran:
    trace = _traced(folder / "local.txt")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    url = f"sqlite:{folder / 'local.db'}"
    handle = module.main.options(store=url, cache=False).run(**INPUTS)
    client = KitaruClient(url)
    while handle.settle(60) == "waiting":
        for wait in client.executions.get(handle.exec_id).waits:
            client.executions.input(handle.exec_id, _answer(wait.name), wait=wait.name)
    return _ran(url, handle.exec_id, trace)


def _dry(path: Path, folder: Path, target: str) -> Ran:
    trace = _traced(folder / "dry.txt")
    chosen = registry.get(target)
    written = build.write(compile_flow(path, profile=chosen.profile), chosen, folder / "build")
    url = f"sqlite:{folder / 'dry.db'}"
    store = open_store(url)
    exec_id = dry_run.run(written, inputs=INPUTS, answers={}, store_url=url)
    client = KitaruClient(url)
    while waits := client.executions.get(exec_id).waits:
        given = {wait.name: _answer(wait.name) for wait in waits}
        dry_run.run(written, inputs=INPUTS, answers=given, store_url=url, exec_id=exec_id)
    store.close()
    return _ran(url, exec_id, trace)


def _answer(name: str) -> Any:
    return ANSWERS[name.rstrip("0123456789").rstrip("_")]


def _traced(file: Path) -> Path:
    file.touch()
    os.environ["TRACE_OF_FLOW"] = str(file)
    return file


def _ran(url: str, exec_id: str, trace: Path) -> Ran:
    view = KitaruClient(url).executions.get(exec_id)
    document = view.to_dict()
    error = document["error"]
    # Glue runs again where a failed step is started again, and where a wait inside a region, or
    # with a variable that cannot cross, begins anew at the last frame.
    once = document["status"] == "completed" and all(r.kind != "wait" for r in view.invocations)
    return Ran(
        status=document["status"],
        result=document["result"],
        error=error and (error["type"], error["message"]),
        # A caught failure is sealed by what comes next, be it a cut: a flow that fails in between
        # has it as an attempt in one run, as a record in the other.
        invocations=[
            (r.id, r.kind, r.callee, r.status, r.arguments_digest)
            for r in view.invocations
            if r.status == "completed" or document["status"] == "completed"
        ],
        trace=trace.read_text() if once else "",
    )
