"""The second YAML document of a pipeline: what Kubernetes sets on the pods of its steps.

Kubeflow's SDK extension kfp-kubernetes writes the same fields. Both fields of a secret's name are
written, because servers before 2.5 read the first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kitaru_targets.common.kubernetes import Pod, toleration

_FIELDS = frozenset(
    {"secretAsEnv", "secretAsVolume", "imagePullSecret", "nodeSelector", "tolerations"}
    | {"podMetadata"}
)


def document(pod: Pod, executors: Iterable[str]) -> dict[str, Any]:
    """Return the document for some executors, empty if the project sets nothing."""
    found = {name: value for name, value in _config(pod).items() if value}
    if not found:
        return {}
    every = dict.fromkeys(executors, found)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": every}}}}


def problems(found: Mapping[str, Any], executors: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of such a document."""
    match found:
        case {"platforms": {"kubernetes": {"deploymentSpec": {"executors": dict(every)}}}}:
            if unknown := sorted(every.keys() - executors.keys()):
                yield f"the second document sets something on {unknown[0]}, which is no executor"
            for name, config in every.items():
                if strange := sorted(config.keys() - _FIELDS):
                    yield f"{name}: Kubernetes has no field {strange[0]}"
        case _:
            yield "the second document has no settings of Kubernetes"


def _config(pod: Pod) -> dict[str, Any]:
    metadata = {"labels": pod.labels, "annotations": pod.annotations}
    return {
        "secretAsEnv": [
            {**_named(v.secret), "keyToEnv": [{"secretKey": v.key, "envVar": v.name}]}
            for v in pod.variables
        ],
        "secretAsVolume": [
            {**_named(name), "mountPath": path} for path, name in pod.volumes.items()
        ],
        "imagePullSecret": [_named(name) for name in pod.image_pull_secrets],
        "nodeSelector": {"labels": pod.node_selector} if pod.node_selector else {},
        "tolerations": [toleration(one) for one in pod.tolerations],
        "podMetadata": {name: value for name, value in metadata.items() if value},
    }


def _named(secret: str) -> dict[str, Any]:
    parameter = {"runtimeValue": {"constant": secret}}
    return {"secretName": secret, "secretNameParameter": parameter}
