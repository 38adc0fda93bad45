"""Start runs and deliver answers on Airflow with its own client, which is imported only here.

Tested against apache-airflow-client 3.3 and Airflow 3.3.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.runtime.steps.control_flow import END
from kitaru.wire.records import ExecutionRecord
from kitaru_targets.airflow import dag_file
from kitaru_targets.base import NotReached, Submitted
from kitaru_targets.common.options import check_run

# The option for a run id, which Airflow accepts only once.
RUN_OPTION = "once"
_CONFLICT = 409
_ABSENT = 404
_OPTIONS = frozenset({"url", "token", "run_id", RUN_OPTION})
# The settings required to notify Airflow of answers.
CONNECTION = ("url",)
_SECONDS = 60
# Maximum size of a response with a token.
_MOST_BYTES = 1_000_000
_LOOKS = 60


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the DAG in the document at path `document`. Airflow must already have it.

    Options: `url` of the API server, a `token` for it (default: the token from a server without
    users), and the `run_id`. `once` is also a `run_id`: an existing run with that id is not started
    again.

    Raises:
        UsageError: an option is unknown, or `url` is missing.
        EnvironmentFailure: the client is missing, or Airflow refused.
    """
    dag = dag_file.read(Path(document).read_text(encoding="utf-8")).dag["dag_id"]
    airflow = Connection(options)
    made = airflow.client.TriggerDAGRunPostBody
    once = options.get(RUN_OPTION)
    body = made(conf=dict(parameters), dag_run_id=options.get("run_id", once))
    try:
        run_id = airflow.call("DagRunApi", "trigger_dag_run", dag, body).dag_run_id
    except EnvironmentFailure as error:
        if once is None or getattr(error.__cause__, "status", None) != _CONFLICT:
            raise
        run_id = once
    return Submitted(f"{dag}/{run_id}", f"{airflow.url}/dags/{dag}/runs/{run_id}")


def answered(
    record: ExecutionRecord,
    wait: str,
    value: Any,
    options: Mapping[str, str],
    looks: int = _LOOKS,
) -> bool:
    """Continue an execution's run after the answer to `wait`; return False if no task waits.

    The answer in the journal counts, and Airflow only has to be notified. A task that asks receives
    a response, repeatedly while Airflow is still parking it. A step that ended at the wait is
    cleared together with all later tasks. Options and errors are those of `submit`.
    """
    there, came = _Run(record.run, options), False
    for look in range(looks):
        if look:
            time.sleep(1)
        place = there.place()
        if place.wait != wait:
            if came or there.has_ended():
                return came
        elif place.following == END:
            if there.has_ended() or there.sleeps(place.task):
                there.clear(place.task)
                return True
        elif there.respond(place.following, value):
            return True
        came = place.wait == wait
    raise NotReached(
        f"Airflow at {there.airflow.url} has not reached {wait} in {looks} s. The answer is "
        "recorded.",
        help=f"Look at the run {record.run} on its page, or send the same answer again.",
    )


def cancelled(record: ExecutionRecord, options: Mapping[str, str]) -> bool:
    """End an execution's run and its tasks as failed; return False if the run has ended.

    Options and errors are those of `submit`.
    """
    there = _Run(record.run, options)
    if there.has_ended():
        return False
    there.end()
    return True


def has_ended(run: str, options: Mapping[str, str]) -> bool:
    """Return whether a run has ended, or Airflow has no such run.

    Options and errors are those of `submit`.
    """
    try:
        return _Run(run, options).has_ended()
    except EnvironmentFailure as error:
        if getattr(error.__cause__, "status", None) != _ABSENT:
            raise
        return True


@dataclass(frozen=True, slots=True)
class _Place:
    """The current position of a run: the last task that reported it, the next step and the wait."""

    task: str = ""
    following: str = ""
    wait: str = ""


class _Run:
    """A run of a compiled flow on Airflow, called `dag/run`."""

    def __init__(self, run: str, options: Mapping[str, str]) -> None:
        self.airflow = Connection(options)
        self._dag, _, self._run = run.partition("/")

    def has_ended(self) -> bool:
        found = self._call("DagRunApi", "get_dag_run", self._run)
        return str(found.state.value) in ("success", "failed")

    def place(self) -> _Place:
        newest = {"xcom_key": "outcome", "order_by": ["-timestamp"], "limit": 1}
        found = self._call("XComApi", "get_xcom_entries", self._run, "~", **newest)
        if not found.xcom_entries:
            return _Place()
        task = found.xcom_entries[0].task_id
        told = self._call("XComApi", "get_xcom_entry", task, self._run, "outcome")
        outcome = told.actual_instance.value
        return _Place(task, outcome["next"], outcome.get("wait", {}).get("name", ""))

    def respond(self, following: str, value: Any) -> bool:
        """Respond to the task before `following` if it asks; return whether it accepted that."""
        asked = self._call("TaskInstanceApi", "get_hitl_details", self._run)
        for detail in asked.hitl_details:
            task = detail.task_instance
            if following not in self._behind(task.task_id):
                continue
            if detail.response_received:
                return bool(task.state and task.state.value == "success")
            payload = self.airflow.client.UpdateHITLDetailPayload(**_response(detail, value))
            place = (self._run, task.task_id, task.map_index, payload)
            self._call("TaskInstanceApi", "update_hitl_detail", *place)
        return False

    def clear(self, task: str) -> None:
        """Clear a task and all later tasks, so that they run again."""
        body = {"dag_run_id": self._run, "task_ids": [task], "include_downstream": True}
        what = {**body, "only_failed": False, "dry_run": False}
        made = self.airflow.client.ClearTaskInstancesBody.from_dict(what)
        self._call("TaskInstanceApi", "post_clear_task_instances", made)

    def sleeps(self, task: str) -> bool:
        """Return whether a task waits for the end of a sleep, without a worker."""
        found = self._call("TaskInstanceApi", "get_task_instance", self._run, task)
        return bool(found.state and found.state.value == "deferred")

    def end(self) -> None:
        """End the run as failed."""
        body = self.airflow.client.DAGRunPatchBody(state="failed")
        self._call("DagRunApi", "patch_dag_run", self._run, body)

    def _behind(self, task: str) -> list[str]:
        return list(self._call("TaskApi", "get_task", task).downstream_task_ids)

    def _call(self, api: str, method: str, *arguments: Any, **named: Any) -> Any:
        return self.airflow.call(api, method, self._dag, *arguments, **named)


def _response(detail: Any, value: Any) -> dict[str, Any]:
    """Return the response that a person would select or fill in on the page."""
    if not detail.params:
        words = {True: "Approve", False: "Reject"}
        return {"chosen_options": [words.get(value, value) if type(value) is bool else value]}
    is_text = detail.params["answer"]["description"] == "JSON"
    answer = json.dumps(value) if is_text else value
    return {"chosen_options": detail.options, "params_input": {"answer": answer}}


class Connection:
    """A connection to one API server. All its errors are EnvironmentFailures."""

    def __init__(self, options: Mapping[str, str]) -> None:
        check_run("airflow", options, _OPTIONS)
        if not options.get("url"):
            raise UsageError(
                "Airflow needs the option 'url', the address of its API server.",
                help="--set url=https://AIRFLOW_HOST",
            )
        self.url = options["url"].rstrip("/")
        try:
            self.client: Any = importlib.import_module("airflow_client.client")
            self._apis: Any = importlib.import_module("airflow_client.client.api")
        except ImportError as error:
            raise EnvironmentFailure(
                "Telling Airflow needs its client, which is not installed.",
                help="pip install 'apache-airflow-client>=3.3,<4'",
            ) from error
        token = options.get("token") or self._token()
        configuration = self.client.Configuration(host=self.url, access_token=token)
        # A redirect would send the answer to a server that no setting names.
        configuration.retries = importlib.import_module("urllib3").Retry(3, redirect=False)
        self._connection = self.client.ApiClient(configuration)

    def call(self, api: str, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the API; raise EnvironmentFailure if Airflow refuses."""
        found = getattr(getattr(self._apis, api)(self._connection), method)
        try:
            return found(*arguments, **named, _request_timeout=_SECONDS)
        except Exception as error:
            raise EnvironmentFailure(f"Airflow at {self.url} did not do it: {error}") from error

    def _token(self) -> str:
        from urllib.request import HTTPRedirectHandler, build_opener

        class Refuse(HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                """Follow no redirect: it would lead to a server that no setting names."""

        try:
            if not self.url.startswith(("http://", "https://")):
                raise ValueError("its URL does not begin with http:// or https://")
            with build_opener(Refuse).open(f"{self.url}/auth/token", timeout=_SECONDS) as response:
                return str(json.loads(response.read(_MOST_BYTES))["access_token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnvironmentFailure(
                f"Airflow at {self.url} gives no token without a name: {error}",
                help="set KITARU_AIRFLOW_TOKEN to one of its tokens",
            ) from error
