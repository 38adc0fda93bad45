"""The values of a run in a Job, and the rules by which Kubernetes inserts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from kitaru.errors import InputError
from kitaru.wire.canonical import sha256
from kitaru.wire.names import suggestion
from kitaru_targets.common import parameters
from kitaru_targets.kubernetes.profile import MAX_NAME

CONTAINER = "flow"
INPUT_PREFIX = "KITARU_INPUT_"
EXECUTION_LABEL = "kitaru.dev/execution"
_VARIABLES = {
    parameters.STORE: "KITARU_STORE",
    parameters.EXECUTION: "KITARU_EXECUTION",
    parameters.INPUTS: "KITARU_INPUTS",
}
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def variable(parameter: str) -> str:
    """Return the name of the variable that has the value of a parameter.

    >>> variable("topic"), variable("kitaru_store")
    ('KITARU_INPUT_topic', 'KITARU_STORE')
    """
    return _VARIABLES.get(parameter, f"{INPUT_PREFIX}{parameter}")


def literal(text: str) -> str:
    """Return a text that Kubernetes inserts unchanged: it replaces `$(NAME)`, and `$$` by `$`."""
    return text.replace("$", "$$")


def references(text: str) -> list[str]:
    """Return the names of the variables that a text refers to."""
    return [match[1] for match in _REFERENCE.finditer(text) if match[1] is not None]


def expanded(text: str, known: Mapping[str, str]) -> str:
    """Return a text with the values of its references, as the kubelet inserts them.

    >>> expanded("--run $(JOB) $(NONE) $$(JOB)", {"JOB": "a"})
    '--run a $(NONE) $(JOB)'
    """

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else known.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def container(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the container of a Job."""
    found: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    return found


def filled(job: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a Job with the values of a run, by parameter; it is called `name` if that is set.

    Raises InputError if the Job has no such parameter.
    """
    made = deepcopy(dict(job))
    env = {one["name"]: one for one in container(made)["env"]}
    for parameter, value in given.items():
        entry = env.get(variable(parameter))
        if entry is None:
            known = [n.removeprefix(INPUT_PREFIX) for n in env if n.startswith(INPUT_PREFIX)]
            listed = f"its inputs are: {', '.join(known) or 'none'}"
            raise InputError(
                f"The document: unknown input {parameter!r}.",
                help=suggestion(parameter, known, listed),
            )
        entry["value"] = literal(parameters.as_text(value))
    if name:
        del made["metadata"]["generateName"]
        made["metadata"]["name"] = name
    if exec_id := given.get(parameters.EXECUTION):
        # Kubernetes accepts no label that ends with a hyphen.
        label = {EXECUTION_LABEL: str(exec_id).rstrip("-")}
        for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
            metadata["labels"] = {**metadata["labels"], **label}
    return made


def short(name: str) -> str:
    """Return the name of a Job; a longer one than Kubernetes accepts ends with its digest."""
    if len(name) <= MAX_NAME:
        return name
    digest = sha256(name.encode()).removeprefix("sha256:")[:12]
    return f"{name[: MAX_NAME - 13].rstrip('-')}-{digest}"
