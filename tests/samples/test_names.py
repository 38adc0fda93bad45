"""One file has one name, however its flow is started: every start can be resumed from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient

# Everything that is recorded by name: callees, classes in values, the flow's module.
FLOW = """
import os
from dataclasses import dataclass
import kitaru
from kitaru import checkpoint, flow

@dataclass
class Brief:
    text: str

@checkpoint
def research(topic: str) -> Brief:
    with open(os.environ["RAN"], "a") as file:
        file.write("research ")
    return Brief(f"brief on {topic}")

@checkpoint
def draft(brief: Brief) -> Brief:
    with open(os.environ["RAN"], "a") as file:
        file.write("draft ")
    return Brief(f"draft of {brief.text}")

@flow
def review(topic: str) -> str:
    brief = research(topic)
    kitaru.memory.set("brief", brief)
    approved = kitaru.wait(name="approve", schema=bool)
    assert kitaru.memory.get("brief") == brief
    return draft(brief).text if approved else "rejected"

"""
START = "review.run('owls')\n"
PYTHON = sys.executable


@dataclass(frozen=True)
class Start:
    """How a flow is started: its files, the command, and the module that is recorded."""

    command: Sequence[str]
    module: str
    file: str = "seed.py"
    start: str = START
    others: dict[str, str] = field(default_factory=dict)


RUN_PATH = "import runpy; runpy.run_path('seed.py', run_name='__main__')"
STARTS = {
    "file": Start(["seed.py"], "seed"),
    "file below the folder": Start(["flows/seed.py"], "seed", "flows/seed.py"),
    "guarded": Start(["seed.py"], "seed", start=f'if __name__ == "__main__":\n    {START}'),
    "thread": Start(
        ["seed.py"], "seed",
        start=f"import threading\nthreading.Thread(target=lambda: {START.strip()}).start()\n",
    ),
    "sys.exit": Start(["seed.py"], "seed", start=f"import sys\n{START}sys.exit()\n"),
    "chdir": Start(["seed.py"], "seed", start=f"import os\n{START}os.chdir('/')\n"),
    "module": Start(["-m", "seed"], "seed"),
    "module of a package": Start(
        ["-m", "house.seed"], "house.seed", "house/seed.py",
        others={"house/__init__.py": "", "house/tone.py": "TONE = 'dry'\n"},
        start=f"from .tone import TONE\n{START}",
    ),
    "file of a package": Start(
        ["house/seed.py"], "house.seed", "house/seed.py", others={"house/__init__.py": ""}
    ),
    "package": Start(
        ["-m", "house"], "house.__main__", "house/__main__.py", others={"house/__init__.py": ""}
    ),
    "namespace package": Start(["-m", "house.seed"], "house.seed", "house/seed.py"),
    "not an identifier": Start(["my-seed.v2.py"], "my-seed_v2", "my-seed.v2.py"),
    "profiler": Start(["-m", "cProfile", "-o", "profile.out", "seed.py"], "seed"),
    "run_path": Start(["-c", RUN_PATH], "seed"),
    "run_path of another script": Start(["other.py"], "seed", others={"other.py": RUN_PATH}),
    "decorated": Start(
        ["seed.py"], "seed", others={"house.py": (
            "import functools\n\ndef loud(f):\n    @functools.wraps(f)\n"
            "    def inner(*args, **kwargs):\n        return f(*args, **kwargs)\n    return inner\n"
        )},
        start=f"from house import loud\nreview = flow(loud(review.function))\n{START}",
    ),
}  # fmt: skip


def python(folder: Path, *arguments: str, stdin: str | None = None) -> None:
    done = subprocess.run(
        [PYTHON, *arguments], cwd=folder, input=stdin, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def write(folder: Path, start: Start) -> Path:
    for name, text in {**start.others, start.file: FLOW + start.start}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / start.file


def only() -> Any:
    (item,) = KitaruClient().executions.list()
    return KitaruClient().executions.get(item["exec_id"])


ANSWER = "import kitaru; client = kitaru.KitaruClient(); [one] = client.executions.list(); "
ANSWER += "print(client.executions.input(one['exec_id'], True).wait())"


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.setenv("RAN", str(tmp_path / "ran.txt"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_another_process_answers_what_was_started_in_any_way(start: Start, tmp_path: Path) -> None:
    file = write(tmp_path, start)
    python(tmp_path, *start.command)
    record = only().journal.execution
    assert (record.module, record.file) == (start.module, str(file))
    assert only().status == "waiting"

    python(tmp_path, "-c", ANSWER)
    view = only()
    assert view.status == "completed"
    last = start.module.rpartition(".")[2]
    callees = {one.callee for one in view.journal.invocations() if one.kind == "checkpoint"}
    assert callees == {f"{last}.research", f"{last}.draft"}
    assert (tmp_path / "ran.txt").read_text().split() == ["research", "draft"]


@pytest.mark.parametrize("left", ["checkout", "moved"])
def test_another_checkout_answers(left: str, tmp_path: Path, monkeypatch: Any) -> None:
    start = STARTS["module of a package"]
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, start)
    python(first, *start.command)
    if left == "moved":
        first.rename(second)
    else:
        write(second, start)
    monkeypatch.chdir(second)
    python(second, "-c", ANSWER)
    assert only().status == "completed"


def test_a_file_reached_by_a_link_has_the_name_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, STARTS["file"])
    (tmp_path / "link.py").symlink_to("seed.py")
    python(tmp_path, "link.py")
    assert only().journal.execution.module == "seed"
    python(tmp_path, "-c", ANSWER)
    assert only().status == "completed"


SPAWNS = """
import multiprocessing as mp

@checkpoint
def spread(topic: str) -> list[Brief]:
    with mp.get_context("spawn").Pool(1) as pool:
        return pool.map(work, [topic])

def work(topic: str) -> Brief:
    return Brief(topic)

@flow
def spawning(topic: str) -> str:
    kitaru.wait(name="go")
    return spread(topic)[0].text
"""


def test_a_script_that_multiprocessing_imports_again_starts_one_execution(tmp_path: Path) -> None:
    guarded = 'if __name__ == "__main__":\n    spawning.run("owls").wait(timeout=240)\n'
    now = SPAWNS.replace('    kitaru.wait(name="go")\n', "")
    (tmp_path / "seed.py").write_text(FLOW + now + guarded)
    python(tmp_path, "seed.py")
    assert only().status == "completed"


def test_a_start_that_multiprocessing_repeats_is_refused(tmp_path: Path) -> None:
    text = FLOW + "import multiprocessing as mp\n\ndef work():\n    pass\n\n" + (
        "if __name__ == '__main__':\n    process = mp.get_context('spawn').Process(target=work)\n"
        "    process.start()\n    process.join()\nelse:\n    review.run('owls')\n"
    )  # fmt: skip
    (tmp_path / "seed.py").write_text(text)
    done = subprocess.run(
        [PYTHON, "seed.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert "was called while multiprocessing imports the script" in done.stderr
    assert KitaruClient().executions.list() == []


NO_FILE: dict[str, Callable[[Path], None]] = {
    "standard input": lambda folder: python(folder, "-", stdin=FLOW + START),
    "-c": lambda folder: python(folder, "-c", FLOW + START),
    "exec": lambda folder: python(
        folder, "-c", f"exec({FLOW + START!r}, {{'__name__': '__main__'}})"
    ),
}


@pytest.mark.parametrize("start", NO_FILE.values(), ids=NO_FILE.keys())
def test_code_without_a_file_is_answered_and_continues_where_it_is_defined(
    start: Callable[[Path], None], tmp_path: Path
) -> None:
    start(tmp_path)
    record = only().journal.execution
    assert (record.module, record.file) == ("__main__", "")
    kitaru = [PYTHON, "-m", "kitaru", "executions"]
    done = subprocess.run(
        [*kitaru, "resume", record.exec_id], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "code that no file contains" in done.stderr
    assert f"review.resume('{record.exec_id}')" in done.stderr

    KitaruClient().executions.input(record.exec_id, True)
    again = f"print(review.resume({record.exec_id!r}).wait())"
    python(tmp_path, "-", stdin=FLOW + again)
    assert only().status == "completed"
    assert (tmp_path / "ran.txt").read_text().split() == ["research", "draft"]
