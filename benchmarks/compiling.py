"""Cost of compiling: `kitaru compile` against kfp, Hera and flytekit, as whole processes.

Each tool builds and compiles the same pipeline, a chain of equally many steps, in a separate
environment. The three other tools do not analyse source: the user's program runs and creates steps.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
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


def project_of(folder: Path, modules: int) -> Path:
    """Write a flow that imports a chain of modules, each with a class and some helpers."""
    helpers = "\n\n".join(HELPER.replace("NUMBER", str(number)) for number in range(4))
    for number in range(modules):
        following = f"from m{number + 1} import helper_0 as following\n"
        text = MODULE.replace("NUMBER", str(number)) + helpers
        following = following if number + 1 < modules else "following = None\n"
        (folder / f"m{number}.py").write_text(text.replace("FOLLOWING\n", following))
    flow = folder / "flow.py"
    flow.write_text(flow_program(10).replace("\n\n\n", "\nfrom m0 import helper_0\n\n\n", 1))
    return flow


MODULE = """\
import json
import logging
from dataclasses import dataclass
FOLLOWING
logger = logging.getLogger(__name__)
LIMIT = NUMBER


@dataclass
class ThingNUMBER:
    name: str
    size: int = LIMIT

    def area(self) -> int:
        return self.size * self.size


"""
HELPER = """\
def helper_NUMBER(value: int, label: str = "x") -> dict[str, int]:
    found = {}
    for index, each in enumerate(range(value)):
        if each % (NUMBER + 2):
            found[f"{label}-{index}"] = each * NUMBER + len(label)
        else:
            found.setdefault(label, 0)
    return {key: item for key, item in found.items() if item}
"""


def ours(source: Path, runs: int) -> tuple[Cost, Cost]:
    """Return the cost of compiling without a cache, and again with the cached result."""
    folder = source.parent
    cache = folder / "cache"
    command = [sys.executable, "-m", "kitaru", "compile", str(source)]
    command += ["--target", "kubeflow", "-o", str(folder / "build")]

    def cold() -> Cost:
        shutil.rmtree(cache, ignore_errors=True)
        return cost(command)

    os.environ["KITARU_COMPILE_CACHE"] = str(cache)
    try:
        return best(cold, runs=runs), best(lambda: cost(command), runs=runs)
    finally:
        del os.environ["KITARU_COMPILE_CACHE"]


def theirs(folder: Path, name: str, count: int, runs: int) -> Cost:
    program = folder / f"chain_{name}.py"
    program.write_text(PROGRAMS[name])
    python = ENVS / ENVIRONMENTS[name] / "bin" / "python"
    command = [str(python), str(program), str(count), str(folder / f"{name}.yaml")]
    return best(lambda: cost(command), runs=runs)


def _shown(taken: Cost) -> str:
    return f"{taken.cpu:.2f} s CPU, {taken.wall:.2f} s, {taken.memory:.0f} MB"


def measure(count: int) -> Iterator[Line]:
    runs = 3 if count < 1_000 else 1
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = folder / f"chain_{count}.py"
        source.write_text(flow_program(count))
        cold, again = ours(source, runs)
        others = {name: theirs(folder, name, count, runs) for name in PROGRAMS}
    fastest = min(other.cpu for other in others.values())
    against = ", ".join(f"{name} {other.cpu:.2f}" for name, other in others.items()) + " s CPU"
    what = f"compile a chain of {count:,} checkpoints for Kubeflow"
    aim = "≤ 1× the fastest" if count < 1_000 else "≤ 1.5× the fastest"
    yield Line(f"{what}, nothing stored", _shown(cold), against, cold.cpu / fastest, aim)
    ratio = again.cpu / fastest
    yield Line(f"{what}, unchanged", _shown(again), against, ratio, "≤ 0.25× the fastest")


def measure_project(modules: int) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as made:
        cold, again = ours(project_of(Path(made), modules), 3)
    what = f"compile a flow with {modules:,} modules"
    yield Line(f"{what}, nothing stored", _shown(cold), "", None, "≤ 1 s CPU")
    yield Line(f"{what}, unchanged", _shown(again), "", None, "≤ 0.2 s CPU")


def lines() -> list[Line]:
    found = [line for count in (10, 100, 1_000) for line in measure(count)]
    return [*found, *measure_project(300)]
