"""Real Airflow runs a flow to the same end as `kitaru run`.

One Airflow runs all of them side by side; a test looks at one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.upload import upload

from kitaru.stores import open_store
from tests.airflow.run import Run, until
from tests.airflow.server import Airflow, running
from tests.oracles.ask import ROOT, python
from tests.oracles.test_flows import Case, kitaru, locally, meaning

pytestmark = pytest.mark.slow

FLOWS = Path(__file__).with_name("flows")
EXAMPLES = ROOT / "examples"
ORACLES = ROOT / "tests" / "oracles" / "flows"
TARGET = registry.get("airflow")
CASES = {
    "review": Case(EXAMPLES / "review_flow.py", {"topic": "owls {{ ds }} $(id)"}, (True,)),
    "rejected": Case(EXAMPLES / "review_flow.py", {"topic": "owls"}, (False,)),
    "dispatched": Case(EXAMPLES / "review_flow.py", {"topic": "owls"}, (True,)),
    "cancelled": Case(EXAMPLES / "review_flow.py", {"topic": "nothing"}),
    "order": Case(FLOWS / "order.py", {"text": "Kayaks"}, (7, "fly", None)),
    "rounds": Case(FLOWS / "rounds.py", {"topic": "kites"}, ("wind", "fine")),
    "killed": Case(FLOWS / "killed.py"),
    "nap": Case(FLOWS / "nap.py"),
    "lists": Case(ORACLES / "batch.py", {"ask": True}, (True,)),
    "torn": Case(ORACLES / "batch.py", {"text": "torn/win"}),
    "no lists": Case(ORACLES / "batch.py", {"text": ""}),
    "triage": Case(EXAMPLES / "triage.py"),
    "fan_out": Case(EXAMPLES / "fan_out.py"),
    "agent": Case(EXAMPLES / "research_agent.py"),
    "async": Case(EXAMPLES / "async_report.py", {"topics": "owls,tea"}, (True,)),
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, build.Build]:
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "home" / "dags").mkdir(parents=True)
    store = open_store(f"sqlite:{folder / 'store.db'}")
    made = {}
    for file in {case.file for case in CASES.values()}:
        compilation = compile_flow(file, profile=TARGET.profile)
        made[file] = build.write(compilation, TARGET, folder / file.stem, store=store.url)
        upload(made[file], store)
        beside = [name for name in made[file].files if name.startswith("kitaru_")]
        for name, copied in {"dag.py": file.name, **dict(zip(beside, beside, strict=True))}.items():
            (folder / "home" / "dags" / copied).write_bytes(made[file].read(name))
    store.close()
    return made


@pytest.fixture(scope="module")
def airflow(builds: dict[Path, build.Build]) -> Iterator[Airflow]:
    home = next(iter(builds.values())).directory.parent / "home"
    with running(python("airflow"), home) as started:
        yield started


@pytest.fixture(scope="module")
def runs(airflow: Airflow, builds: dict[Path, build.Build]) -> dict[str, Run]:
    """Start all cases at once."""
    url = f"sqlite:{airflow.folder.parents[1] / 'store.db'}"
    killed = {"folder": str(airflow.folder.parent)}
    started = {}
    for name, case in CASES.items():
        made = builds[case.file]
        given = build.parameters.values(made.plan, killed if name == "killed" else case.inputs)
        submitted = TARGET.submit(str(made.document), given, {"url": airflow.url})
        assert submitted.url.startswith(airflow.url)
        started[name] = Run(airflow, url, submitted.run_id)
    return started


@pytest.fixture
def at_airflow(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_AIRFLOW_URL", airflow.url)


def command(run: Run, *words: str) -> Any:
    """Give a command of `kitaru executions` about a run."""
    name, *rest = words
    return kitaru("executions", name, run.view.exec_id, *rest, "--store", run.url)


def test_an_answer_on_the_page_lets_the_run_go_on(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["review"]
    run.asked("approve_draft")
    assert run.view.status == "waiting"
    detail = run.answer("approve_draft", "Approve")
    assert (detail.subject, detail.options) == ("Approve draft?", ["Approve", "Reject"])
    states = run.ended()
    assert {state for state, _ in states.values()} == {"success"}
    assert meaning(run.view) == meaning(locally(CASES["review"], tmp_path))
    record = run.view.journal.execution
    assert (record.target, record.run) == ("airflow", run.name)


@pytest.mark.usefixtures("at_airflow")
def test_an_answer_from_the_terminal_lets_the_run_go_on(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["rejected"]
    until(lambda: run.states()["draft"][0] == "success")
    assert command(run, "input", "--value", "false")["waits"] == []
    run.ended()
    assert meaning(run.view) == meaning(locally(CASES["rejected"], tmp_path))


def test_an_answer_by_curl_lets_the_run_continue(
    runs: dict[str, Run], airflow: Airflow, tmp_path: Path
) -> None:
    run = runs["dispatched"]
    run.asked("approve_draft")
    environment = {**os.environ, "KITARU_AIRFLOW_URL": airflow.url}
    command = [sys.executable, "-m", "kitaru", "serve", "--port", "0", "--store", run.url, "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as service:
        try:
            assert service.stdout is not None
            url = json.loads("".join(iter(service.stdout.readline, "}\n")) + "}")["url"]
            where = f"{url}/api/v1/executions/{run.view.exec_id}/waits/approve_draft/answer"
            body = ["-H", "content-type: application/json", "-d", '{"value": true}']
            answered = subprocess.run(
                ["curl", "-sS", "--fail-with-body", *body, where],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert answered.returncode == 0, answered.stdout + answered.stderr
            assert json.loads(answered.stdout)["status"] in ("answered", "resuming", "running")
            run.ended()
        finally:
            service.terminate()
    assert meaning(run.view) == meaning(locally(CASES["dispatched"], tmp_path))


@pytest.mark.usefixtures("at_airflow")
def test_a_step_that_waits_within_is_started_again_by_the_answer(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["rounds"]
    for wait, value in (("hint", "wind"), ("hint_2", "fine")):
        run.ended()
        command(run, "input", "--wait", wait, "--value", value)
    run.ended()
    assert meaning(run.view) == meaning(locally(CASES["rounds"], tmp_path))
    assert run.states()["draft"] == ("success", 1), "what has ended is not started again"


def test_a_sleep_and_a_deadline_end_by_themselves(runs: dict[str, Run]) -> None:
    run = runs["nap"]
    states = run.ended()
    assert run.view.result == "before after nobody"
    assert {state for state, _ in states.values()} == {"success"}
    assert states["note"] == ("success", 1), "a task that sleeps is not tried again"


@pytest.mark.usefixtures("at_airflow")
def test_a_cancelled_execution_ends_its_run(runs: dict[str, Run]) -> None:
    run = runs["cancelled"]
    run.asked("approve_draft")
    assert command(run, "cancel")["status"] == "cancelled"
    # On SQLite, which locks no rows, the scheduler may write its own view of the run over it.
    states = run.ended("failed", "success")
    assert states["approve_draft"][0] == "failed"
    assert states["approve_draft_answer"][1] == 0


def test_an_answer_that_does_not_fit_is_asked_for_again(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["order"]
    detail = run.asked("many")
    assert (detail.subject, detail.body) == ("How many of KAYAKS?", "3 to 9.")
    run.respond(detail, "OK", answer=2)
    run.asked("many", after=detail.task_instance.try_number)
    run.answer("many", "OK", answer=7)
    detail = run.answer("how", "fly")
    assert (detail.subject, detail.options) == ("Which way?", ["ship", "fly"])
    assert run.answer("note", "OK", answer="null").subject == "note"
    states = run.ended()
    skipped = {task for task, (state, _) in states.items() if state == "skipped"}
    assert skipped == {"whisper", "few", "few_answer"}
    assert {states[task][1] for task in skipped} == {0}, "nothing was started for them"
    assert meaning(run.view) == meaning(locally(CASES["order"], tmp_path))


def test_a_step_that_is_killed_is_tried_again(runs: dict[str, Run]) -> None:
    run = runs["killed"]
    assert run.ended()["killed_once"] == ("success", 2)
    assert run.view.result == "2 tries"
    notes = run.airflow.folder.parent / "notes"
    assert notes.read_text() == "noted\n", "what is recorded does not run again"


def test_the_calls_of_a_list_are_tasks(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["lists"]
    run.answer("approved", "Approve")
    states = run.ended()
    assert [states[f"words_classify[{n}]"][0] for n in range(6)] == ["success"] * 6
    assert [states[f"summarise[{n}]"][0] for n in range(3)] == ["success"] * 3
    assert meaning(run.view) == meaning(locally(CASES["lists"], tmp_path))


def test_an_empty_list_is_skipped_and_the_run_goes_on(runs: dict[str, Run], tmp_path: Path) -> None:
    states = runs["no lists"].ended()
    assert (states["words_classify"], states["digest"][0]) == (("skipped", 0), "success")
    assert meaning(runs["no lists"].view) == meaning(locally(CASES["no lists"], tmp_path))


@pytest.mark.parametrize("name", ["torn", "triage", "fan_out", "agent"])
def test_a_flow_means_the_same(name: str, runs: dict[str, Run], tmp_path: Path) -> None:
    runs[name].ended()
    assert meaning(runs[name].view) == meaning(locally(CASES[name], tmp_path))
