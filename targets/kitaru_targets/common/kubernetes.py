"""What a project sets on the pods of its steps: secrets, scheduling, labels and annotations.

Each option is a string, as a stack and a command line write it, in the spelling of `kubectl`:

    [tool.kitaru.kubeflow]
    node_selector = "cloud.google.com/gke-nodepool=gpu"
    tolerations = "nvidia.com/gpu=present:NoSchedule, spot:NoExecute"
"""

from __future__ import annotations

import re
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire import amounts
from kitaru.wire.plan import Plan, Resources
from kitaru.wire.structs import Struct, field, fields_of
from kitaru_targets.common.options import Option, pairs, parts, several

SCHEME = "k8s"
GPU = "nvidia.com/gpu"
_OBJECT = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_NAME = rf"(?:{_OBJECT}/)?{_WORD}"
_EFFECT = r"(?:NoSchedule|PreferNoSchedule|NoExecute)"
_PATH = r"/[A-Za-z0-9_./-]{1,200}"
_REFERENCE = re.compile(rf"({_OBJECT})/([A-Za-z0-9_.-]{{1,253}})", re.ASCII)


IMAGE_PULL_SECRETS, NODE_SELECTOR = "image_pull_secrets", "node_selector"
TOLERATIONS, LABELS, ANNOTATIONS = "tolerations", "labels", "annotations"
SECRET_VOLUMES = "secret_volumes"
OPTIONS = {
    IMAGE_PULL_SECRETS: Option(
        "names of secrets with which to pull the image: NAME, NAME", several(_OBJECT)
    ),
    NODE_SELECTOR: Option(
        "the labels of the nodes for steps: KEY=VALUE, KEY=VALUE", several(rf"{_NAME}={_WORD}")
    ),
    TOLERATIONS: Option(
        "tolerated taints: KEY=VALUE:EFFECT, KEY:EFFECT",
        several(rf"{_NAME}(?:={_WORD})?:{_EFFECT}"),
    ),
    LABELS: Option("labels of each pod: KEY=VALUE, KEY=VALUE", several(rf"{_NAME}={_WORD}")),
    ANNOTATIONS: Option(
        "annotations of each pod: KEY=VALUE, KEY=VALUE", several(rf"{_NAME}=[!-+.-~]{{1,1000}}")
    ),
    SECRET_VOLUMES: Option(
        "secrets that are folders in each step: NAME:/PATH, NAME:/PATH",
        several(rf"{_OBJECT}:{_PATH}"),
    ),
}


class Toleration(Struct):
    """A tolerated taint; an empty `value` tolerates every value."""

    key: str
    value: str
    effect: str


class Variable(Struct):
    """An environment variable whose value is a key of a Kubernetes secret."""

    name: str
    secret: str
    key: str


class Pod(Struct):
    """The settings of a step's pod; `volumes` are the secrets by the path of their folder."""

    variables: tuple[Variable, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)


def pod(plan: Plan) -> Pod:
    """Return the settings of a plan whose options were checked.

    Raises UsageError for a reference to a Kubernetes secret that is not `k8s:SECRET/KEY`.
    """
    given = {name: parts(plan.options.get(name, "")) for name in OPTIONS}
    return Pod(
        variables=variables(plan),
        image_pull_secrets=given[IMAGE_PULL_SECRETS],
        node_selector=pairs(plan.options.get(NODE_SELECTOR, "")),
        tolerations=tuple(map(_toleration, given[TOLERATIONS])),
        labels=pairs(plan.options.get(LABELS, "")),
        annotations=pairs(plan.options.get(ANNOTATIONS, "")),
        volumes={path: name for name, _, path in (v.partition(":") for v in given[SECRET_VOLUMES])},
    )


def variables(plan: Plan) -> tuple[Variable, ...]:
    """Return the variables of a plan's secrets in Kubernetes; raise UsageError as `pod` does."""
    found = []
    for name, reference in sorted(plan.secrets.items()):
        scheme, _, place = reference.partition(":")
        if scheme != SCHEME:
            continue
        match = _REFERENCE.fullmatch(place)
        if match is None:
            raise UsageError(
                f"The reference of the secret {name} is not valid: it names no key of a secret.",
                help=f'Set {name} = "{SCHEME}:SECRET/KEY" in [tool.kitaru.secrets].',
            )
        found.append(Variable(name, match[1], match[2]))
    return tuple(found)


def secret_variables(pod: Pod) -> list[dict[str, Any]]:
    """Return the `env` entries of a container for the secrets of a plan."""
    return [
        {"name": one.name, "valueFrom": {"secretKeyRef": {"name": one.secret, "key": one.key}}}
        for one in pod.variables
    ]


def scheduling(pod: Pod) -> dict[str, Any]:
    """Return the fields of a pod's `spec` about nodes and the image; none that is not set."""
    found = {
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
        "nodeSelector": pod.node_selector,
        "tolerations": [toleration(one) for one in pod.tolerations],
    }
    return {name: value for name, value in found.items() if value}


def toleration(one: Toleration) -> dict[str, str]:
    """Return a toleration in the fields of a pod."""
    given = {name: value for name, value in fields_of(one).items() if value}
    return {**given, "operator": "Equal" if one.value else "Exists"}


def secret_mounts(pod: Pod) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the `volumes` of a pod and the `volumeMounts` of its container for secret folders."""
    volumes, mounts = [], []
    for number, (path, secret) in enumerate(sorted(pod.volumes.items()), 1):
        name = f"secret-{number}"
        volumes.append({"name": name, "secret": {"secretName": secret}})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
    return volumes, mounts


def quantities(asked: Resources) -> dict[str, str]:
    """Return requested resources as quantities of Kubernetes; raise UsageError if not valid.

    >>> quantities(Resources(cpu="2", memory="4K", gpu=1))
    {'cpu': '2', 'memory': '4k', 'nvidia.com/gpu': '1'}
    """
    if asked.cpu:
        amounts.cores(asked.cpu)
    if asked.memory:
        amounts.size(asked.memory)
    # A thousand is `k` in Kubernetes, which has no `K`.
    memory = f"{asked.memory[:-1]}k" if asked.memory.endswith("K") else asked.memory
    found = {"cpu": asked.cpu, "memory": memory, GPU: str(asked.gpu) if asked.gpu else ""}
    return {name: amount for name, amount in found.items() if amount}


def _toleration(text: str) -> Toleration:
    taint, _, effect = text.rpartition(":")
    key, _, value = taint.partition("=")
    return Toleration(key, value, effect)
