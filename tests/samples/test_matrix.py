"""The user's two samples, verbatim: samples x ways of starting x ways of answering, and targets.

Each combination ends with one execution, completed, with the draft as its result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient
from tests import forks
from tests.llm.scripted import Says, serving

pytestmark = pytest.mark.slow

SAMPLES = ["inngest_sample", "temporal_sample"]
TARGETS = [
    *(
        "argo",
        "kubeflow",
        "kubernetes",
        "vertex",
        "sagemaker",
        "azureml",
        "airflow",
        "stepfunctions",
    ),
]
KITARU = [sys.executable, "-m", "kitaru"]
LOOP = "import asyncio\n\nasync def main():\n    import {0}\n\nasyncio.run(main())\n"
TEST = "def test_sample():\n    import {0}\n"
INTERPRETER = "exec(open('{0}.py').read())\n"
# How a sample is started: the command, a file beside it, and what it reads from standard input.
STARTS: dict[str, tuple[list[str], str, str]] = {
    "python file.py": (["{0}.py"], "", ""),
    "python -m": (["-m", "{0}"], "", ""),
    "event loop": (["other.py"], LOOP, ""),
    "pytest": (["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_other.py"], TEST, ""),
    "kitaru run": (["-m", "kitaru", "run", "{0}.py", "-i", "topic=Durable agents"], "", ""),
    "standard input": (["-"], "", "{0}.py"),
    "python -c": (["-c", INTERPRETER], "", ""),
}
# Code without a file is continued by its own process; the second sample's process ends before.
WITHOUT_FILE = {"standard input", "python -c"}
ANSWERS = ["another process", "another directory", "another checkout"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving([Says("the text")] * 200) as provider:
        model = f'fast = {{ model = "openai/scripted", api_base = "{provider.url}" }}\n'
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            project = tmp_path / name / "pyproject.toml"
            project.write_text(f"[tool.kitaru.models]\n{model}")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
        monkeypatch.chdir(tmp_path / "first")
        yield


def put(sample: str, folder: Path) -> None:
    shutil.copy(Path(__file__).with_name(f"{sample}.py"), folder)


def views() -> list[Any]:
    client = KitaruClient()
    return [client.executions.get(item["exec_id"]) for item in client.executions.list()]


def waiting(process: subprocess.Popen[str]) -> str:
    """Return the id of the execution that `process` starts, once it waits."""
    for _ in range(2400):
        found = [view.exec_id for view in views() if view.status == "waiting"]
        if found:
            return str(found[0])
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


def command(*words: str, folder: Path | None = None) -> str:
    done = forks.run([*KITARU, *words], cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def start(sample: str, how: str) -> subprocess.Popen[str]:
    words, text, stdin = STARTS[how]
    put(sample, Path.cwd())
    for name in ("other.py", "test_other.py"):
        Path(name).write_text(text.format(sample))
    with Path(stdin.format(sample) or os.devnull).open() as given:
        return subprocess.Popen(
            [sys.executable, *(word.format(sample) for word in words)], stdin=given,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def check(sample: str, process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    (view,) = views()
    document = view.to_dict()
    assert (document["status"], document["result"]) == ("completed", "the text")
    names = [one["id"] for one in document["invocations"]]
    assert names == ["research", "draft", "approve_draft"]


def cases() -> Iterator[Any]:
    for sample in SAMPLES:
        for how in STARTS:
            if how in WITHOUT_FILE and sample == "temporal_sample":
                continue
            # The other places tell the same of each way that has a file.
            places = ANSWERS if how == "python file.py" else ANSWERS[:2]
            for answer in places:
                yield pytest.param(sample, how, answer, id=f"{sample}-{how}-{answer}")


@pytest.mark.parametrize(("sample", "how", "answer"), list(cases()))
def test_a_sample_is_started_answered_and_completed(
    sample: str, how: str, answer: str, tmp_path: Path
) -> None:
    process = start(sample, how)
    exec_id = waiting(process)
    folder = tmp_path / "first"
    if answer != "another process":
        folder = tmp_path / "second"
    if answer == "another checkout":
        put(sample, folder)
        (tmp_path / "first" / f"{sample}.py").unlink()
    command("executions", "input", exec_id, "--value", "true", folder=folder)
    check(sample, process)


@pytest.mark.parametrize("how", sorted(WITHOUT_FILE))
def test_a_process_that_ended_without_a_file_leaves_a_clear_message(how: str) -> None:
    process = start("temporal_sample", how)
    _, err = process.communicate(timeout=300)
    (view,) = views()
    assert (process.returncode, view.status) == (0, "waiting")
    assert f"answer   kitaru executions input {view.exec_id}" in err
    done = subprocess.run(
        [*KITARU, "executions", "resume", view.exec_id], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "code that no file contains" in done.stderr


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_checked_compiled_and_rehearsed(sample: str, target: str) -> None:
    put(sample, Path.cwd())
    command("check", f"{sample}.py")
    command("compile", f"{sample}.py", "-t", target)
    words = ["-t", target, "-i", "topic=Durable agents", "--answer", "approve_draft=true"]
    command("dry-run", f"{sample}.py", *words, "--no-input")
    (view,) = views()
    assert (view.status, view.to_dict()["result"]) == ("completed", "the text")


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_deployed_and_invoked(sample: str) -> None:
    put(sample, Path.cwd())
    command("deploy", f"{sample}.py:review_flow")
    assert views() == []
    command("invoke", "review_flow", "-i", "topic=Durable agents")
    (view,) = views()
    assert view.status == "waiting"
    command("executions", "input", view.exec_id, "--value", "true")
    (view,) = views()
    assert (view.status, view.to_dict()["result"]) == ("completed", "the text")
