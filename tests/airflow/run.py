"""Follow a run on a real Airflow, and answer it as a person does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kitaru_targets.airflow.submit import Connection

from kitaru.client import KitaruClient
from kitaru.view import ExecutionView
from kitaru.wire.ids import execution_id_of
from tests.airflow.server import Airflow

_SECONDS = 480


@dataclass(frozen=True)
class Run:
    """A run of a compiled flow, named `dag/run` as Airflow does; `url` is the store's."""

    airflow: Airflow
    url: str
    name: str

    @property
    def view(self) -> ExecutionView:
        return KitaruClient(self.url).executions.get(execution_id_of(self.name))

    @property
    def state(self) -> str:
        return str(self._call("DagRunApi", "get_dag_run").state.value)

    def states(self) -> dict[str, tuple[str, int]]:
        """Return each task's state and number of tries; of a mapped one with its index."""
        found = self._call("TaskInstanceApi", "get_task_instances").task_instances
        return {
            t.task_id + (f"[{t.map_index}]" if t.map_index >= 0 else ""): (
                t.state.value if t.state else "",
                t.try_number,
            )
            for t in found
        }

    def asked(self, task: str, *, after: int = 0) -> Any:
        """Wait until a task asks, in a try after the given one; return what Airflow shows of it."""
        return until(lambda: self._asked(task, after))

    def answer(self, task: str, option: str, **params: Any) -> Any:
        """Answer a task until it has taken the answer; return what Airflow showed of it first.

        An answer in the first seconds may meet Airflow still parking the task, which then asks
        again.
        """
        detail = self.asked(task)

        def taken() -> bool:
            if again := self._asked(task, 0):
                self.respond(again, option, **params)
            return self.states()[task][0] == "success"

        until(taken)
        return detail

    def respond(self, detail: Any, option: str, **params: Any) -> None:
        """Answer as a person does on the page."""
        import airflow_client.client as client

        payload = client.UpdateHITLDetailPayload(chosen_options=[option], params_input=params)
        task = detail.task_instance.task_id
        self._call("TaskInstanceApi", "update_hitl_detail", task, -1, payload)

    def ended(self, *ways: str) -> dict[str, tuple[str, int]]:
        """Wait until the run has ended, as a success by default; return its tasks and tries."""
        until(lambda: self.state in ("success", "failed"))
        states = self.states()
        assert self.state in (ways or ("success",)), f"{states}\n{self._logs()}"
        return states

    def _logs(self) -> str:
        """Return the ends of the logs of this run's tasks."""
        _, _, run = self.name.partition("/")
        found = sorted(self.airflow.folder.parent.glob(f"logs/*/run_id={run}/**/*.log"))
        return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in found)

    def _asked(self, task: str, after: int) -> Any:
        states = self.states()
        assert not {"failed", "upstream_failed"} & {state for state, _ in states.values()}, states
        state, number = states[task]
        if state != "awaiting_input" or number <= after:
            return None
        found = self._call("TaskInstanceApi", "get_hitl_details", response_received=False)
        return next(iter(found.hitl_details), None)

    def _call(self, group: str, method: str, *arguments: Any, **named: Any) -> Any:
        """Ask Airflow through its own client."""
        dag, _, run = self.name.partition("/")
        airflow = Connection({"url": self.airflow.url})
        return airflow.call(group, method, dag, run, *arguments, **named)


def until(found: Callable[[], Any]) -> Any:
    """Return what `found` returns as soon as that is something."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(1)
    raise AssertionError(f"not so after {_SECONDS} s")
