"""Start runs, deliver answers and end runs through the API of Argo's server.

Written against the API of Argo Workflows 4.1, and tested against a server on loopback that answers
as documented. It was never run against a real server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.wire.canonical import sha256
from kitaru.wire.records import ExecutionRecord
from kitaru_targets.argo import emit
from kitaru_targets.base import NotReached, Submitted
from kitaru_targets.common import parameters as names
from kitaru_targets.common import read
from kitaru_targets.common.node_names import slug
from kitaru_targets.common.options import check_run

# The option for the name of a run, which the cluster accepts only once.
RUN_OPTION = "once"
# The settings required to notify Argo of answers.
CONNECTION = ("url",)
NAMESPACE = "default"
EXECUTION_LABEL = "kitaru.dev/execution"
_OPTIONS = frozenset({"url", "token", "namespace", RUN_OPTION})
_LONGEST_NAME = 63
_ABSENT, _CONFLICT = 404, 409
_SECONDS = 60
_LOOKS = 30
# Maximum size of a response: a run with the status of all its nodes.
_MOST_BYTES = 64_000_000


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the workflow template in the document at path `document`.

    The run contains the specification of the document. No template in the cluster is read or
    changed.

    Options: `url` of Argo's server, a `token` for it, and the `namespace` (default: `default`).
    `once` is the name of the run: an existing run with that name is not started again.

    Raises:
        UsageError: an option is unknown, or `url` is missing.
        EnvironmentFailure: the server refused.
    """
    argo = Connection(options)
    template, *further = read.parse_all(Path(document).read_text(encoding="utf-8"))
    namespace = options.get("namespace", NAMESPACE)
    path = f"/api/v1/workflows/{quote(namespace, safe='')}"
    metadata = _metadata(template, parameters, options)
    body = {"namespace": namespace, "workflow": workflow(template, metadata, parameters)}
    try:
        made = argo.call("POST", path, body)
    except EnvironmentFailure as error:
        if "name" not in metadata or not _is(error, _CONFLICT):
            raise
        made = argo.call("GET", f"{path}/{metadata['name']}")
    found = made["metadata"]
    run = f"{found['namespace']}/{found['name']}/{found['uid']}"
    url = f"{argo.url}/workflows/{found['namespace']}/{found['name']}"
    return Submitted(run, url, tuple(_notes(further, Path(document), namespace)))


def _metadata(
    template: Mapping[str, Any], parameters: Mapping[str, Any], options: Mapping[str, str]
) -> dict[str, Any]:
    labels = dict(template["metadata"]["labels"])
    if execution := parameters.get(names.EXECUTION):
        labels[EXECUTION_LABEL] = execution
    if RUN_OPTION in options:
        return {"name": _name(options[RUN_OPTION]), "labels": labels}
    return {"generateName": f"{template['metadata']['name']}-", "labels": labels}


def workflow(
    template: Mapping[str, Any], metadata: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the Workflow with the specification of a template, and values for its parameters."""
    declared = template["spec"]["arguments"]["parameters"]
    given = [
        {**one, "value": emit.text_of(parameters[one["name"]])}
        if one["name"] in parameters
        else one
        for one in declared
    ]
    spec = {**template["spec"], "arguments": {"parameters": given}}
    return {"apiVersion": emit.API, "kind": "Workflow", "metadata": metadata, "spec": spec}


def _notes(further: list[dict[str, Any]], document: Path, namespace: str) -> Iterator[str]:
    for one in further:
        yield (
            f"Its pods need the config map {one['metadata']['name']}, which is there after: "
            f"kubectl apply -n {namespace} -f {document}"
        )


def answered(
    record: ExecutionRecord,
    wait: str,
    value: Any,
    options: Mapping[str, str],
    looks: int = _LOOKS,
) -> bool:
    """Continue the run that waits for an answer; return False if no run is open.

    The run is only notified: its next step reads the answer from the journal. Options are those of
    `submit`.

    Raises:
        EnvironmentFailure: the server refused, or the run has not reached a wait. The answer is
            recorded.
    """
    del value
    argo = Connection(options)
    for look in range(looks):
        if look:
            # A step asked, and the controller has not reached the wait.
            time.sleep(1)
        runs = [*_open_runs(argo, record)]
        if not runs:
            return False
        for run in runs:
            nodes = run.get("status", {}).get("nodes", {}).values()
            for node in nodes:
                if (node["type"], node.get("phase")) == ("Suspend", "Running"):
                    body = {"nodeFieldSelector": f"id={node['id']}"}
                    argo.call("PUT", f"{_path(run)}/resume", body)
                    return True
    raise NotReached(
        f"The answer to {wait} is recorded, but the run has not waited for it in {looks} s.",
        help=f"Look at the run {record.run} on its page, or give the same answer again.",
    )


def cancelled(record: ExecutionRecord, options: Mapping[str, str]) -> bool:
    """Terminate the runs of a cancelled execution; return False if none is open.

    Options and errors are those of `submit`.
    """
    argo = Connection(options)
    runs = [*_open_runs(argo, record)]
    for run in runs:
        argo.call("PUT", f"{_path(run)}/terminate", {})
    return bool(runs)


def has_ended(run: str, options: Mapping[str, str]) -> bool:
    """Return whether a run has ended, or the cluster has no such run.

    Options and errors are those of `submit`.
    """
    found = _run(Connection(options), run)
    return found is None or not _is_open(found)


def _open_runs(argo: Connection, record: ExecutionRecord) -> Iterator[dict[str, Any]]:
    """Yield the open runs of an execution: its first run, and those of the remaining steps."""
    first = _run(argo, record.run)
    if first is not None and _is_open(first):
        yield first
    namespace = record.run.partition("/")[0]
    selector = {"listOptions.labelSelector": f"{EXECUTION_LABEL}={record.exec_id}"}
    path = f"/api/v1/workflows/{quote(namespace, safe='')}?{urlencode(selector)}"
    for one in argo.call("GET", path).get("items") or ():
        # A list has no nodes that are kept outside of the object.
        found = _run(argo, "/".join(one["metadata"][n] for n in ("namespace", "name", "uid")))
        if found is not None and _is_open(found) and found != first:
            yield found


def _run(argo: Connection, run: str) -> dict[str, Any] | None:
    """Return a run, None if it was deleted; another run of the same name is not the run."""
    namespace, name, uid = run.split("/")
    path = f"/api/v1/workflows/{quote(namespace, safe='')}/{quote(name, safe='')}"
    try:
        found = argo.call("GET", path)
    except EnvironmentFailure as error:
        if not _is(error, _ABSENT):
            raise
        return None
    return found if found["metadata"]["uid"] == uid else None


def _is_open(run: Mapping[str, Any]) -> bool:
    return run.get("status", {}).get("phase", "") not in ("Succeeded", "Failed", "Error")


def _path(run: Mapping[str, Any]) -> str:
    found = run["metadata"]
    return f"/api/v1/workflows/{quote(found['namespace'])}/{quote(found['name'])}"


def _is(error: EnvironmentFailure, status: int) -> bool:
    return getattr(error.__cause__, "code", None) == status


def _name(text: str) -> str:
    """Return a name that the cluster accepts; one that was changed ends with its digest."""
    name = slug(text, fallback="run", longest=_LONGEST_NAME)
    if name == text:
        return name
    digest = sha256(text.encode()).removeprefix("sha256:")[:12]
    return f"{name[: _LONGEST_NAME - 13].rstrip('-')}-{digest}"


class Connection:
    """A connection to one server. All its errors are EnvironmentFailures."""

    def __init__(self, options: Mapping[str, str]) -> None:
        from urllib.request import HTTPRedirectHandler, build_opener

        class Refuse(HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                """Follow no redirect: it would lead to a server that no setting names."""

        check_run("argo", options, _OPTIONS)
        self.url = options.get("url", "").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(
                "Argo needs the option 'url', the address of its server.",
                help="--set url=https://ARGO_HOST:2746",
            )
        self._token = options.get("token", "").removeprefix("Bearer ")
        self._opener = build_opener(Refuse)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call the API; raise EnvironmentFailure if the server refuses."""
        from urllib.request import Request

        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                found = json.loads(response.read(_MOST_BYTES))
        except HTTPError as error:
            raise EnvironmentFailure(
                f"Argo at {self.url} did not do it: {error.code} {_message(error)}",
                help="export KITARU_ARGO_TOKEN=$(argo auth token)" if error.code == 401 else "",
            ) from error
        except (OSError, ValueError) as error:
            raise EnvironmentFailure(f"Argo at {self.url} did not do it: {error}") from error
        if not isinstance(found, dict):
            raise EnvironmentFailure(f"Argo at {self.url} answered with {str(found)[:100]!r}.")
        return found


def _message(error: HTTPError) -> str:
    text = error.read(_MOST_BYTES).decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300]
