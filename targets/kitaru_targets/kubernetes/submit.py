"""Create the Jobs of executions with Kubernetes' own client, which is imported only here.

Written against kubernetes 37, and tested against a server on loopback. It was never run against a
real cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru_targets.base import Submitted
from kitaru_targets.common import read, sdk
from kitaru_targets.common.options import check_run
from kitaru_targets.kubernetes import job as jobs
from kitaru_targets.kubernetes.profile import SETUP

# The option for the name of a Job, which the API server accepts only once.
RUN_OPTION = "once"
_CONTEXT, _NAMESPACE = "context", "namespace"
_OPTIONS = frozenset({_CONTEXT, _NAMESPACE, RUN_OPTION})
_ABSENT, _CONFLICT = 404, 409
# The API server may be slow while it starts its admission webhooks; it answers within this time.
_SECONDS = 60
_IN_A_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Create the Job of the document at path `document`, and the ConfigMap that it reads.

    Options: the `context` of the kubeconfig (default: its current one; in a pod, the pod's service
    account) and the `namespace` (default: that of the document, else that of the context). `once`
    is the name of the Job: if it exists already, it is the run.

    Raises:
        UsageError: an option is unknown.
        EnvironmentFailure: the client is missing, no cluster is configured, or it refused.
    """
    check_run("kubernetes", options, _OPTIONS)
    path = Path(document)
    job = read.parse(path.read_text("utf-8"))
    name = jobs.short(options[RUN_OPTION]) if RUN_OPTION in options else ""
    filled = jobs.filled(job, parameters, name)
    setup = read.parse_all((path.parent / SETUP).read_text("utf-8"))
    with _connected("did not start the run", options) as cluster:
        namespace = options.get(_NAMESPACE) or job["metadata"].get("namespace") or cluster.namespace
        for one in setup:
            # The service account belongs to the cluster's administrator.
            if one["kind"] == "ConfigMap":
                cluster.create("create_namespaced_config_map", namespace, one)
        made = cluster.create("create_namespaced_job", namespace, filled)
    found = name if made is None else made["metadata"]["name"]
    notes = (f"kubectl logs --namespace {namespace} --follow job/{found}",)
    return Submitted(f"{namespace}/{found}", "", notes=notes)


def has_ended(run: str, options: Mapping[str, str]) -> bool:
    """Return whether the Job of a run has succeeded or failed.

    A Job that does not exist has ended, too: it was deleted, by a person or after its time. That
    counts only in a cluster that the options name, or from a pod. The current context of a person's
    kubeconfig may be another cluster.

    Raises the EnvironmentFailure of `submit`.
    """
    namespace, _, name = run.rpartition("/")
    with _connected(f"did not describe the Job {run}", options) as cluster:
        found = cluster.read_job(name, namespace or cluster.namespace)
        if found is None:
            return cluster.is_named
    conditions = found.get("status", {}).get("conditions") or ()
    return any(
        one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions
    )


class _Cluster:
    """The API server that the options, the environment or a kubeconfig lead to."""

    def __init__(self, client: Any, api: Any, namespace: str, *, is_named: bool) -> None:
        self.namespace = namespace
        self.is_named = is_named
        self._client = client
        self._apis = (client.BatchV1Api(api), client.CoreV1Api(api))

    def create(self, method: str, namespace: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Create an object, and return it; None if one of its name exists.

        The namespace in the object would have to be the same.
        """
        metadata = {**body["metadata"], "namespace": namespace}
        try:
            whole = {**body, "metadata": metadata}
            return self._call(method, namespace, whole, field_validation="Strict")
        except self._client.ApiException as error:
            if error.status != _CONFLICT:
                raise
            return None

    def read_job(self, name: str, namespace: str) -> dict[str, Any] | None:
        """Return a Job as the API server describes it, None if it does not exist."""
        try:
            return self._call("read_namespaced_job", name, namespace)
        except self._client.ApiException as error:
            if error.status != _ABSENT:
                raise
            return None

    def _call(self, method: str, *given: Any, **options: Any) -> dict[str, Any]:
        call = next(getattr(api, method) for api in self._apis if hasattr(api, method))
        # The client's own classes know only the fields of its release.
        response = call(*given, **options, _preload_content=False, _request_timeout=_SECONDS)
        found: dict[str, Any] = json.loads(response.data)
        return found


@contextmanager
def _connected(what: str, options: Mapping[str, str]) -> Iterator[_Cluster]:
    """Yield the cluster; its errors become EnvironmentFailures that start with `what`."""
    kubernetes = sdk.load("kubernetes", "Kubernetes", "kubernetes>=37")
    client, config = kubernetes.client, kubernetes.config
    try:
        yield _cluster(client, config, options)
    except config.ConfigException as error:
        raise EnvironmentFailure(
            f"Kubernetes {what}: no cluster is configured ({error}).",
            help="Set KUBECONFIG, or name a context: --set context=NAME",
        ) from error
    except client.ApiException as error:
        raise EnvironmentFailure(
            f"Kubernetes {what}: {error.status} {_message(error)}", help=_help(error.status)
        ) from error
    except Exception as error:
        raise EnvironmentFailure(f"Kubernetes {what}: {error}") from error


def _cluster(client: Any, config: Any, options: Mapping[str, str]) -> _Cluster:
    loaded = client.Configuration()
    context = options.get(_CONTEXT)
    if context is None and _IN_A_POD.is_file():
        config.load_incluster_config(client_configuration=loaded)
        namespace, is_named = _IN_A_POD.read_text("utf-8").strip(), True
    else:
        config.load_kube_config(context=context, client_configuration=loaded)
        contexts, active = config.list_kube_config_contexts()
        used = next((one for one in contexts if one["name"] == context), active)
        namespace, is_named = used["context"].get("namespace") or "default", context is not None
    return _Cluster(client, client.ApiClient(loaded), namespace, is_named=is_named)


def _message(error: Any) -> str:
    """Return what the API server says of a refusal."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _help(status: int) -> str:
    if status in (401, 403):
        return "DEPLOY.md has the Role of those who start runs: kubectl auth can-i create jobs"
    return ""
