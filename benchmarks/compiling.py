"""Decides what compiling costs: `kitaru compile` against kfp, both as whole processes.

kfp builds and compiles the same pipeline, a chain of as many steps, in its own environment.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import ROOT, Cost, Line, best, cost

KFP_PYTHON = ROOT / ".envs" / "kfp" / "bin" / "python"

KFP_PROGRAM = """\
import sys
from kfp import compiler, dsl

@dsl.component(base_image="python:3.11-slim")
def step(text: str) -> str:
    return text + "."

@dsl.pipeline(name="chain")
def chain(text: str = "start"):
    for _ in range(int(sys.argv[1])):
        text = step(text=text).set_caching_options(False).output

compiler.Compiler().compile(chain, sys.argv[2])
"""


def flow_program(count: int) -> str:
    calls = "\n".join("    text = step(text)" for _ in range(count))
    return (
        "from kitaru import checkpoint, flow\n\n\n"
        '@checkpoint\ndef step(text: str) -> str:\n    return text + "."\n\n\n'
        f'@flow\ndef chain(text: str = "start") -> str:\n{calls}\n    return text\n'
    )


def ours(folder: Path, count: int, runs: int) -> Cost:
    source = folder / f"chain_{count}.py"
    source.write_text(flow_program(count))
    command = [sys.executable, "-m", "kitaru.cli", "compile", str(source)]
    command += ["--target", "kubeflow", "-o", str(folder / "build")]
    return best(lambda: cost(command), runs=runs)


def theirs(folder: Path, count: int, runs: int) -> Cost:
    program = folder / "chain_kfp.py"
    program.write_text(KFP_PROGRAM)
    command = [str(KFP_PYTHON), str(program), str(count), str(folder / "kfp.yaml")]
    return best(lambda: cost(command), runs=runs)


def measure(count: int) -> Line:
    runs = 3 if count < 1_000 else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine, kfp = ours(folder, count, runs), theirs(folder, count, runs)
    return Line(
        what=f"compile a chain of {count:,} checkpoints for Kubeflow",
        ours=f"{mine.cpu:.2f} s CPU, {mine.wall:.2f} s",
        against=f"kfp {kfp.cpu:.2f} s CPU, {kfp.wall:.2f} s",
        ratio=mine.cpu / kfp.cpu,
        aim="≤ 0.5×",
    )


def lines() -> list[Line]:
    return [measure(10), measure(100), measure(1_000)]
