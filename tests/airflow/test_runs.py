"""Decides that real Airflow runs a flow to the end that `kitaru run` comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.airflow.submit import Connection
from kitaru_targets.upload import upload

from kitaru.client import ExecutionView, KitaruClient
from kitaru.stores import open_store
from kitaru.wire.ids import execution_id_of
from tests.airflow.server import Airflow, running
from tests.oracles.ask import ROOT, python
from tests.oracles.test_flows import Case, kitaru, locally, meaning

FLOWS = Path(__file__).with_name("flows")
EXAMPLES = ROOT / "examples"
TARGET = registry.get("airflow")
_SECONDS = 240


@dataclass
class Run:
    """A run of a compiled flow on Airflow, named `dag/run` as Airflow does."""

    airflow: Airflow
    url: str
    name: str = ""
    steps: dict[str, Any] = field(default_factory=dict)

    @property
    def view(self) -> ExecutionView:
        return KitaruClient(self.url).executions.get(execution_id_of(self.name))

    def states(self) -> dict[str, tuple[str, int]]:
        """Return each task's state and number of tries."""
        found = api(self.airflow, "TaskInstanceApi", "get_task_instances", *self.ids())
        return {
            t.task_id: (t.state.value if t.state else "", t.try_number)
            for t in found.task_instances
        }

    def ids(self) -> tuple[str, str]:
        dag, _, run = self.name.partition("/")
        return dag, run

    def asked(self, task: str, *, after: int = 0) -> Any:
        """Wait until a task asks, in a try after the given one; return what Airflow shows of it."""
        return until(lambda: self._asked(task, after))

    def _asked(self, task: str, after: int) -> Any:
        self.failed()
        state, number = self.states()[task]
        if state != "awaiting_input" or number <= after:
            return None
        named = {"response_received": False}
        found = api(self.airflow, "TaskInstanceApi", "get_hitl_details", *self.ids(), **named)
        return next(iter(found.hitl_details), None)

    def answer(self, task: str, option: str, **params: Any) -> Any:
        """Answer a task that asks; return what Airflow showed of it."""
        detail = self.asked(task)
        self.insist(task, option, **params)
        return detail

    def insist(self, task: str, option: str, **params: Any) -> None:
        """Answer whenever a task asks, until it has taken an answer.

        An answer in the first seconds may meet Airflow still parking the task, which then asks
        again.
        """

        def taken() -> bool:
            if again := self._asked(task, 0):
                self.respond(again, option, **params)
            return self.states()[task][0] == "success"

        until(taken)

    def respond(self, detail: Any, option: str, **params: Any) -> None:
        """Answer as a person does on the page."""
        import airflow_client.client as client

        payload = client.UpdateHITLDetailPayload(chosen_options=[option], params_input=params)
        task = detail.task_instance.task_id
        api(self.airflow, "TaskInstanceApi", "update_hitl_detail", *self.ids(), task, -1, payload)

    def failed(self) -> None:
        state = api(self.airflow, "DagRunApi", "get_dag_run", *self.ids()).state.value
        assert state != "failed", self.states()

    def ended(self) -> dict[str, tuple[str, int]]:
        """Wait until the run has succeeded; return its tasks' states and tries."""
        until(lambda: self._succeeded())
        return self.states()

    def _succeeded(self) -> bool:
        self.failed()
        found = api(self.airflow, "DagRunApi", "get_dag_run", *self.ids())
        return bool(found.state.value == "success")


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.5)
    raise AssertionError(f"not so after {_SECONDS} s")


def api(airflow: Airflow, group: str, method: str, *arguments: Any, **named: Any) -> Any:
    """Ask Airflow through its own client."""
    return Connection({"url": airflow.url}).call(group, method, *arguments, **named)


Start = Callable[..., Run]
CASES = {
    "review_flow": Case(EXAMPLES / "review_flow.py", {"topic": "owls {{ ds }} $(id)"}, (True,)),
    "triage": Case(EXAMPLES / "triage.py"),
    "fan_out": Case(EXAMPLES / "fan_out.py"),
    "research_agent": Case(EXAMPLES / "research_agent.py"),
    "order": Case(FLOWS / "order.py", {"text": "Kayaks"}, (7, "fly", None)),
    "killed": Case(FLOWS / "killed.py"),
    "lists": Case(FLOWS / "lists.py"),
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, build.Build]:
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "home" / "dags").mkdir(parents=True)
    store = open_store(f"sqlite:{folder / 'store.db'}")
    made = {}
    for name, case in CASES.items():
        compilation = compile_flow(case.file, profile=TARGET.profile)
        made[name] = build.write(compilation, TARGET, folder / name, store=store.url)
        upload(made[name], store)
        (folder / "home" / "dags" / f"{name}.py").write_bytes(made[name].document.read_bytes())
    store.close()
    return made


@pytest.fixture(scope="module")
def airflow(builds: dict[str, build.Build]) -> Iterator[Airflow]:
    home = next(iter(builds.values())).directory.parent / "home"
    with running(python("airflow"), home) as started:
        yield started


@pytest.fixture
def start(airflow: Airflow, builds: dict[str, build.Build]) -> Start:
    def started(name: str, **inputs: Any) -> Run:
        made = builds[name]
        given = build.parameters.values(made.plan, inputs)
        submitted = TARGET.submit(str(made.document), given, {"url": airflow.url})
        assert submitted.url.startswith(airflow.url)
        return Run(airflow, f"sqlite:{made.directory.parent / 'store.db'}", submitted.run_id)

    return started


def test_an_answer_on_the_page_lets_the_run_go_on(start: Start, tmp_path: Path) -> None:
    case = CASES["review_flow"]
    run = start("review_flow", **case.inputs)
    run.asked("approve_draft")
    assert run.view.status == "waiting"
    detail = run.answer("approve_draft", "Approve")
    assert (detail.subject, detail.options) == ("Approve draft?", ["Approve", "Reject"])
    states = run.ended()
    assert {state for state, _ in states.values()} == {"success"}
    assert meaning(run.view) == meaning(locally(case, tmp_path))
    record = run.view.journal.execution
    assert (record.target, record.run) == ("airflow", run.name)


def test_an_answer_from_the_terminal_lets_the_run_go_on(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(EXAMPLES / "review_flow.py", {"topic": "owls"}, (False,))
    run = start("review_flow", **case.inputs)
    run.asked("approve_draft")
    monkeypatch.setenv("KITARU_AIRFLOW_URL", run.airflow.url)
    command = ["executions", "input", run.view.exec_id, "--value", "false", "--store", run.url]
    assert kitaru(*command)["waits"] == []
    # What counts is in the journal: where Airflow asks again, any answer will do.
    run.insist("approve_draft", "Approve")
    run.ended()
    assert meaning(run.view) == meaning(locally(case, tmp_path))


def test_an_answer_that_does_not_fit_is_asked_for_again(start: Start, tmp_path: Path) -> None:
    case = CASES["order"]
    run = start("order", **case.inputs)
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
    assert meaning(run.view) == meaning(locally(case, tmp_path))


def test_a_step_that_is_killed_is_tried_again(start: Start, tmp_path: Path) -> None:
    run = start("killed", folder=str(tmp_path))
    states = run.ended()
    assert states["killed_once"] == ("success", 2)
    assert run.view.result == "2 tries"
    assert (tmp_path / "notes").read_text() == "noted\n", "what is recorded does not run again"


@pytest.mark.parametrize(("text", "nodes"), [("a b c", 3), ("", 0)])
def test_the_calls_of_a_list_are_tasks(text: str, nodes: int, start: Start, tmp_path: Path) -> None:
    run = start("lists", text=text)
    run.ended()
    found = api(run.airflow, "TaskInstanceApi", "get_task_instances", *run.ids()).task_instances
    made = [(t.map_index, t.state.value) for t in found if t.task_id == "shout"]
    assert sorted(made) == ([(n, "success") for n in range(nodes)] or [(-1, "skipped")])
    case = Case(FLOWS / "lists.py", {"text": text})
    assert meaning(run.view) == meaning(locally(case, tmp_path))


@pytest.mark.parametrize("name", ["triage", "fan_out", "research_agent"])
def test_a_flow_means_the_same(name: str, start: Start, tmp_path: Path) -> None:
    run = start(name)
    run.ended()
    assert meaning(run.view) == meaning(locally(CASES[name], tmp_path))
