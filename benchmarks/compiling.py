"""Cost of compiling: `kitaru compile` against kfp, Hera and flytekit, as whole processes.

Each builds and compiles the same pipeline, a chain of as many steps, in an environment of its own.
None of the three analyses source: the user's program runs and makes the steps.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import ROOT, Cost, Line, best, cost

ENVS = ROOT / ".envs"

PROGRAMS = {
    "kfp": """\
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
""",
    "Hera": """\
import sys
from hera.workflows import DAG, Parameter, Workflow, script

@script(image="python:3.11-slim")
def step(text: str):
    print(text + ".")

start = Parameter(name="text", value="start")
with Workflow(generate_name="chain-", entrypoint="chain", arguments=start) as flow:
    with DAG(name="chain"):
        last = None
        for number in range(int(sys.argv[1])):
            text = last.result if last else flow.get_parameter("text")
            task = step(name=f"step-{number}", arguments={"text": text})
            if last:
                last >> task
            last = task
with open(sys.argv[2], "w") as file:
    file.write(flow.to_yaml())
""",
    "flytekit": """\
import sys
from collections import OrderedDict
from flytekit import task, workflow
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.tools.translator import get_serializable

@task
def step(text: str) -> str:
    return text + "."

@workflow
def chain(text: str = "start") -> str:
    for _ in range(int(sys.argv[1])):
        text = step(text=text)
    return text

images = ImageConfig(Image("default", "python", "3.11-slim"))
settings = SerializationSettings(project="p", domain="d", version="1", image_config=images)
specification = get_serializable(OrderedDict(), settings, chain)
with open(sys.argv[2], "wb") as file:
    file.write(specification.to_flyte_idl().SerializeToString())
""",
}
ENVIRONMENTS = {"kfp": "kfp", "Hera": "others", "flytekit": "others"}


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


def theirs(folder: Path, name: str, count: int, runs: int) -> Cost:
    program = folder / f"chain_{name}.py"
    program.write_text(PROGRAMS[name])
    python = ENVS / ENVIRONMENTS[name] / "bin" / "python"
    command = [str(python), str(program), str(count), str(folder / f"{name}.yaml")]
    return best(lambda: cost(command), runs=runs)


def measure(count: int) -> Line:
    runs = 3 if count < 1_000 else 1
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        mine = ours(folder, count, runs)
        others = {name: theirs(folder, name, count, runs) for name in PROGRAMS}
    return Line(
        what=f"compile a chain of {count:,} checkpoints for Kubeflow",
        ours=f"{mine.cpu:.2f} s CPU, {mine.wall:.2f} s",
        against=", ".join(f"{name} {other.cpu:.2f}" for name, other in others.items()) + " s CPU",
        ratio=mine.cpu / min(other.cpu for other in others.values()),
        aim="≤ 0.5× the fastest",
    )


def lines() -> list[Line]:
    return [measure(10), measure(100), measure(1_000)]
