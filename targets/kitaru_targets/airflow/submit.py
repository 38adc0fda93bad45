"""Decides how Airflow is told of runs and answers: through its own client, imported here only.

Run against apache-airflow-client 3.3 and Airflow 3.3.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError

from ..base import Submitted
from ..common import dag_file

_OPTIONS = frozenset({"url", "token", "run_id"})
_SECONDS = 60


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the DAG that the document at path `document` defines; Airflow must have it.

    Options: `url` of the API server, a `token` for it (default: the one that a server without
    users gives), and the `run_id`.

    Raises:
        UsageError: an unknown option, or no `url`.
        EnvironmentFailure: the client is missing, or Airflow refused.
    """
    dag = dag_file.read(Path(document).read_text(encoding="utf-8")).dag["dag_id"]
    airflow = Connection(options)
    made = airflow.client.TriggerDAGRunPostBody
    body = made(conf=dict(parameters), dag_run_id=options.get("run_id"))
    started = airflow.call("DagRunApi", "trigger_dag_run", dag, body)
    run = f"{dag}/{started.dag_run_id}"
    return Submitted(run, f"{airflow.url}/dags/{dag}/runs/{started.dag_run_id}")


def answered(run: str, value: Any, options: Mapping[str, str]) -> bool:
    """Let the task of `run` that asks go on with an answer; False when none is asking.

    What is in the journal counts; the task only has to be told that there is something.
    Options and errors are those of `submit`.
    """
    dag, _, run_id = run.partition("/")
    airflow = Connection(options)
    asking = airflow.call(
        "TaskInstanceApi", "get_hitl_details", dag, run_id, response_received=False
    )
    for detail in asking.hitl_details:
        response = airflow.client.UpdateHITLDetailPayload(**_response(detail, value))
        task = detail.task_instance
        airflow.call(
            "TaskInstanceApi", "update_hitl_detail", dag, run_id, task.task_id, -1, response
        )
    return bool(asking.hitl_details)


def _response(detail: Any, value: Any) -> dict[str, Any]:
    """Return what a person would choose or fill in on the page."""
    if not detail.params:
        words = {True: "Approve", False: "Reject"}
        return {"chosen_options": [words.get(value, value) if type(value) is bool else value]}
    is_text = detail.params["answer"]["description"] == "JSON"
    answer = json.dumps(value) if is_text else value
    return {"chosen_options": detail.options, "params_input": {"answer": answer}}


class Connection:
    """A connection to one API server; every failure of it is an EnvironmentFailure."""

    def __init__(self, options: Mapping[str, str]) -> None:
        unknown = sorted(set(options) - _OPTIONS)
        if unknown or not options.get("url"):
            found = f"unknown option {unknown[0]!r} for airflow" if unknown else "no url of Airflow"
            raise UsageError(found, help=f"known: {', '.join(sorted(_OPTIONS))}")
        self.url = options["url"].rstrip("/")
        try:
            self.client: Any = importlib.import_module("airflow_client.client")
            self._apis: Any = importlib.import_module("airflow_client.client.api")
        except ImportError as error:
            raise EnvironmentFailure(
                "telling Airflow needs its client, which is not installed",
                help="pip install 'apache-airflow-client>=3.3,<4'",
            ) from error
        token = options.get("token") or self._token()
        configuration = self.client.Configuration(host=self.url, access_token=token)
        self._connection = self.client.ApiClient(configuration)

    def call(self, api: str, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the API; raise EnvironmentFailure when Airflow refuses."""
        found = getattr(getattr(self._apis, api)(self._connection), method)
        try:
            return found(*arguments, **named, _request_timeout=_SECONDS)
        except Exception as error:
            raise EnvironmentFailure(f"Airflow at {self.url} did not do it: {error}") from error

    def _token(self) -> str:
        from urllib.request import urlopen

        try:
            with urlopen(f"{self.url}/auth/token", timeout=_SECONDS) as response:
                return str(json.load(response)["access_token"])
        except (OSError, ValueError, KeyError) as error:
            raise EnvironmentFailure(
                f"Airflow at {self.url} gives no token without a name: {error}",
                help="set KITARU_AIRFLOW_TOKEN to one of its tokens",
            ) from error
