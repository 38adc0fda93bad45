"""An answer, or a replay, continues a pipeline that has ended: here, or on its service, once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from kitaru_targets import build, registry
from kitaru_targets.base import Submitted
from kitaru_targets.upload import upload

from kitaru.cli.app import run
from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure, StateError, UsageError
from kitaru.ops import submit
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.ids import new_execution_id

from ..targets.conftest import Make, make

__all__ = ["make"]

FLOW = """
    from pathlib import Path
    import kitaru
    from kitaru import checkpoint, flow

    @checkpoint
    def draft(topic: str) -> str:
        return topic

    @checkpoint
    def publish(text: str) -> str:
        return f"published: {{text}}"

    @flow
    def review(topic: str) -> str:
        text = draft(topic)
        if kitaru.wait(name="publish", schema=bool):
            return publish(text)
        again = kitaru.wait(name="again", question="Really not?", schema=bool)
        with Path({body!r}).open("a") as file:
            file.write("body\\n")
        if Path({body!r}).with_name("broken").exists():
            raise ValueError("broken")
        return f"{{text}}: {{again}}"
"""


class Waiting:
    """An execution of a Kubeflow pipeline whose steps have run up to a wait."""

    def __init__(self, built: build.Build, folder: Path) -> None:
        self.url = f"sqlite:{folder / 'store.db'}"
        self.exec_id = new_execution_id()
        self.built, self.folder = built, folder / "container"
        store = open_store(self.url)
        upload(built, store)
        store.close()
        with zipfile.ZipFile(built.directory / "bundle.zip") as archive:
            archive.extractall(self.folder)
        self.step("draft")
        self.client = KitaruClient(self.url)

    def step(self, name: str) -> None:
        command = ["step", "--plan", "kitaru_build/plan.json", "--step", name, "--run", "r"]
        where = ["--execution", self.exec_id, "--store", self.url, "--target", "kubeflow"]
        environment = {**os.environ, "KITARU_BUNDLE": self.built.bundle_digest, "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-m", "kitaru.runtime", *command, *where, "--input", "topic=tea"],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    @property
    def status(self) -> str:
        return self.client.executions.get(self.exec_id).status


@pytest.fixture
def body(tmp_path: Path) -> Path:
    return tmp_path / "body.txt"


@pytest.fixture
def waiting(make: Make, tmp_path: Path, body: Path) -> Waiting:
    built = make(FLOW.format(body=str(body)), "kubeflow")
    assert registry.get("kubeflow").profile.waits == "suspended"
    return Waiting(built, tmp_path)


def answer_the_first(waiting: Waiting) -> None:
    """Answer the first wait, and run the step that continues to the second one."""
    waiting.client.executions.input(waiting.exec_id, False, "publish", submit=False)
    waiting.step("draft")
    assert waiting.status == "waiting"


def test_what_is_durable_goes_to_the_service(waiting: Waiting) -> None:
    # Kubeflow cannot reach a file of this machine.
    with pytest.raises(UsageError, match=r"is recorded, .* cannot reach the store") as raised:
        waiting.client.executions.input(waiting.exec_id, True)
    assert f"Then: kitaru executions resume {waiting.exec_id}" in raised.value.help
    view = waiting.client.executions.get(waiting.exec_id)
    assert (view.status, view.waits, view.submission) == ("answered", (), None)
    with pytest.raises(UsageError, match="cannot reach the store"):
        waiting.client.executions.resume(waiting.exec_id)


def test_several_answers_at_once_complete_it_once(waiting: Waiting, body: Path) -> None:
    answer_the_first(waiting)
    begin, found = threading.Barrier(3), []

    def answer() -> None:
        begin.wait()
        found.append(waiting.client.executions.input(waiting.exec_id, True).wait())

    threads = [threading.Thread(target=answer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["tea: True"] * 3
    assert body.read_text() == "body\n"


def test_a_failure_here_is_the_executions(waiting: Waiting, body: Path) -> None:
    answer_the_first(waiting)
    body.with_name("broken").touch()
    handle = waiting.client.executions.input(waiting.exec_id, True)
    assert handle.status == "failed"
    error = waiting.client.executions.get(waiting.exec_id).error
    assert error is not None and error.message == "broken"


def test_code_that_cannot_run_here_goes_to_the_service(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, body: Path
) -> None:
    answer_the_first(waiting)
    monkeypatch.setattr(submit, "complete_here", lambda *_: False)
    with pytest.raises(UsageError, match="cannot reach the store"):
        waiting.client.executions.input(waiting.exec_id, True)
    assert not body.exists()


def test_a_run_that_was_noted_is_not_started_again(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(journal: object, record: submit.SubmissionRecord, *_: object, **__: object) -> object:
        started.append(f"run-{record.round}")
        return Submitted(started[-1], "http://runs/1")

    monkeypatch.setattr(submit, "start_run", start)
    waiting.client.executions.input(waiting.exec_id, True)
    view = waiting.client.executions.get(waiting.exec_id)
    assert view.status == "resuming" and view.submission is not None
    assert view.submission.run == started[0]
    waiting.client.executions.input(waiting.exec_id, True)
    with pytest.raises(StateError, match=f"as {started[0]} on Kubeflow") as raised:
        waiting.client.executions.resume(waiting.exec_id)
    assert "--again" in raised.value.help
    waiting.client.executions.resume(waiting.exec_id, again=True)
    assert [name.rpartition("-")[2] for name in started] == ["2", "3"]


def test_the_answer_is_recorded_when_the_service_cannot_be_reached(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise EnvironmentFailure("Submitting needs its SDK.", help="pip install kfp")

    monkeypatch.setattr(submit, "start_run", refuse)
    with pytest.raises(EnvironmentFailure, match=r"is recorded, .* needs its SDK") as raised:
        waiting.client.executions.input(waiting.exec_id, True)
    assert raised.value.help.splitlines()[0] == "pip install kfp"
    assert waiting.status == "answered"


def test_a_replay_that_the_service_cannot_run_is_not_begun(
    waiting: Waiting, capsys: pytest.CaptureFixture[str]
) -> None:
    # Kubeflow cannot reach a file of this machine.
    with pytest.raises(UsageError, match="cannot reach the store"):
        waiting.client.executions.replay(waiting.exec_id)
    command = ["executions", "replay", waiting.exec_id, "--store", waiting.url]
    assert run(command) == 2 and "cannot reach the store" in capsys.readouterr().err
    listed = waiting.client.executions.list()
    assert [one["exec_id"] for one in listed] == [waiting.exec_id]


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the service reach the store; return the runs that are started on it."""
    started: list[str] = []

    def start(journal: Journal, *_: object, **__: object) -> Submitted:
        started.append(journal.exec_id)
        return Submitted(f"run-{len(started)}", "http://runs/1")

    monkeypatch.setattr("kitaru_targets.upload.check_reach", lambda *_: None)
    monkeypatch.setattr(submit, "start_run", start)
    return started


def test_a_replay_goes_to_the_service(
    waiting: Waiting, reached: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    begun = waiting.client.executions.replay(waiting.exec_id, results={"draft": "coffee"})
    assert reached == [begun.exec_id]
    view = waiting.client.executions.get(begun.exec_id)
    assert view.submission is not None and view.submission.run == "run-1"
    only = waiting.client.executions.replay(waiting.exec_id, submit=False)
    assert reached == [begun.exec_id]
    assert waiting.client.executions.get(only.exec_id).submission is None
    command = ["executions", "replay", waiting.exec_id, "--store", waiting.url]
    assert run(command) == 0
    shown = capsys.readouterr()
    assert "run-2 on kubeflow" in shown.err and reached[1] in shown.err + shown.out


def test_a_replay_that_cannot_be_submitted_is_recorded(
    waiting: Waiting, reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise EnvironmentFailure("Submitting needs its SDK.", help="pip install kfp")

    with monkeypatch.context() as without:
        without.setattr(submit, "start_run", refuse)
        with pytest.raises(EnvironmentFailure, match=r"is recorded, .* needs its SDK") as raised:
            waiting.client.executions.replay(waiting.exec_id)
    newest = waiting.client.executions.latest().exec_id
    assert newest != waiting.exec_id
    assert raised.value.help.splitlines()[1].startswith(f"Then: kitaru executions resume {newest}")
    waiting.client.executions.resume(newest)
    assert reached == [newest]
