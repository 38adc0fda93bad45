"""Validate that Kubernetes runs a Job as intended.

The schema is that of Kubernetes, without the fields that our documents do not use, and with the
values that the API server accepts. What it cannot express is checked below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from kitaru.errors import UsageError
from kitaru.runtime.schema.validate import reasons
from kitaru.wire import amounts
from kitaru.wire.cron import check_cron, check_timezone
from kitaru_targets.common import parameters, read
from kitaru_targets.common.schedules import service_cron
from kitaru_targets.kubernetes.job import CONTAINER, container, references, variable
from kitaru_targets.kubernetes.profile import (
    MAX_CRON_NAME,
    MAX_DOCUMENT_BYTES,
    MAX_NAME,
    MAX_PREFIX,
    MAX_SECONDS,
)

_MOST_ANNOTATIONS_BYTES = 256 * 1024
Found = dict[str, Any]


def _object(required: Found, optional: Found | None = None) -> Found:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": [*required],
        "additionalProperties": False,
    }


def _text(pattern: str, most: int = 253) -> Found:
    return {"type": "string", "pattern": f"^(?:{pattern})$", "maxLength": most}


def _list(item: Found, least: int = 0) -> Found:
    return {"type": "array", "items": item, "minItems": least}


def _number(least: int, most: int = MAX_SECONDS) -> Found:
    return {"type": "integer", "minimum": least, "maximum": most}


def _map(key: str, value: Found) -> Found:
    names = {"pattern": f"^(?:{key})$", "maxLength": 317}
    return {"type": "object", "propertyNames": names, "additionalProperties": value}


_ANY = {"type": "string"}
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:{_SUBDOMAIN}/)?{_WORD}"
_FILE = r"[A-Za-z0-9_.-]+"
_PATH = r"/[^:]*"
_QUANTITY = r"[0-9]+(?:\.[0-9]+)?(?:m|k|[KMGTPE]i|[MGTPE])?"
_LABELS = _map(_KEY, _text(_WORD, MAX_NAME) | {"minLength": 1})
_QUANTITIES = _map(_KEY, _text(_QUANTITY))
_NAMED = _object({"name": _text(_SUBDOMAIN)})
_METADATA = {
    "namespace": _text(_LABEL, MAX_NAME),
    "labels": _LABELS,
    "annotations": _map(_KEY, _ANY),
}
_SOURCE = {
    "oneOf": [
        _object(
            {"fieldRef": _object({"fieldPath": _text(r"metadata\.[a-z]+(?:\['[a-z./-]+'\])?")})}
        ),
        *(
            _object({kind: _object({"name": _text(_SUBDOMAIN), "key": _text(_FILE)})})
            for kind in ("secretKeyRef", "configMapKeyRef")
        ),
    ]
}
_ENV = {
    "type": "object",
    "properties": {"name": _text(r"[A-Za-z_][A-Za-z0-9_]*"), "value": _ANY, "valueFrom": _SOURCE},
    "required": ["name"],
    "minProperties": 2,
    "maxProperties": 2,
    "additionalProperties": False,
}
_CONTAINER = _object(
    {
        "name": {"const": CONTAINER},
        "image": {"type": "string", "minLength": 1},
        "command": _list(_ANY, 1),
        "args": _list(_ANY, 1),
        "env": _list(_ENV, 1),
        "resources": _object({"requests": _QUANTITIES, "limits": _QUANTITIES}),
        "securityContext": _object(
            {
                "allowPrivilegeEscalation": {"const": False},
                "readOnlyRootFilesystem": {"const": True},
                "capabilities": {"const": {"drop": ["ALL"]}},
            }
        ),
        "terminationMessagePath": _text(_PATH),
        "terminationMessagePolicy": {"enum": ["File", "FallbackToLogsOnError"]},
        "volumeMounts": _list(
            _object(
                {"name": _text(_LABEL, MAX_NAME), "mountPath": _text(_PATH)},
                {"readOnly": {"type": "boolean"}},
            )
        ),
    }
)
_VOLUME = {
    "type": "object",
    "properties": {
        "name": _text(_LABEL, MAX_NAME),
        "emptyDir": _object({}),
        "secret": _object({"secretName": _text(_SUBDOMAIN)}),
        "configMap": _object(
            {
                "name": _text(_SUBDOMAIN),
                "items": _list(_object({"key": _text(_FILE), "path": _text(_FILE)}), 1),
            }
        ),
    },
    "required": ["name"],
    "minProperties": 2,
    "maxProperties": 2,
    "additionalProperties": False,
}
_POD = _object(
    {
        # A policy for failed pods works only with this one.
        "restartPolicy": {"const": "Never"},
        "serviceAccountName": _text(_SUBDOMAIN),
        "automountServiceAccountToken": {"const": False},
        "terminationGracePeriodSeconds": _number(0),
        "securityContext": _object(
            {
                "runAsNonRoot": {"const": True},
                "runAsUser": _number(1),
                "runAsGroup": _number(1),
                "fsGroup": _number(1),
                "seccompProfile": {"const": {"type": "RuntimeDefault"}},
            }
        ),
        "containers": {**_list(_CONTAINER, 1), "maxItems": 1},
        "volumes": _list(_VOLUME),
    },
    {
        "imagePullSecrets": _list(_NAMED, 1),
        "nodeSelector": _LABELS,
        "tolerations": _list(
            _object(
                {
                    "key": _text(_KEY, 317),
                    "operator": {"enum": ["Equal", "Exists"]},
                    "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                },
                {"value": _text(_WORD)},
            ),
            1,
        ),
    },
)
_CODES = {**_list(_number(1, 255), 1), "uniqueItems": True}
_RULE = {
    "oneOf": [
        _object(
            {
                "action": {"enum": ["Ignore", "Count", "FailJob"]},
                "onPodConditions": _list(_object({"type": _text(_KEY, 317)}), 1),
            }
        ),
        _object(
            {
                "action": {"enum": ["Ignore", "Count", "FailJob"]},
                "onExitCodes": _object(
                    {"containerName": {"const": CONTAINER}, "operator": {"const": "In"},
                     "values": _CODES}
                ),
            }
        ),
    ]
}  # fmt: skip
_JOB_SPEC = _object(
    {
        "backoffLimit": _number(0),
        "activeDeadlineSeconds": _number(1),
        "ttlSecondsAfterFinished": _number(0),
        # The only one that the API server accepts beside a policy for failed pods.
        "podReplacementPolicy": {"const": "Failed"},
        "podFailurePolicy": _object({"rules": {**_list(_RULE, 1), "maxItems": 20}}),
        "template": _object(
            {
                "metadata": _object({"labels": _LABELS}, {"annotations": _METADATA["annotations"]}),
                "spec": _POD,
            }
        ),
    }
)
_JOB = _object(
    {
        "apiVersion": {"const": "batch/v1"},
        "kind": {"const": "Job"},
        "metadata": {
            **_object(
                {"labels": _LABELS, "annotations": _METADATA["annotations"]},
                {
                    **_METADATA,
                    "name": _text(_SUBDOMAIN, MAX_NAME),
                    "generateName": _text(rf"{_LABEL}-", MAX_PREFIX),
                },
            ),
            "oneOf": [{"required": ["name"]}, {"required": ["generateName"]}],
        },
        "spec": _JOB_SPEC,
    }
)
_SETUP: dict[str, Found] = {
    "ServiceAccount": _object(
        {
            "apiVersion": {"const": "v1"},
            "kind": _ANY,
            "metadata": _object({"name": _text(_SUBDOMAIN)}, _METADATA),
            "automountServiceAccountToken": {"type": "boolean"},
        }
    ),
    "ConfigMap": _object(
        {
            "apiVersion": {"const": "v1"},
            "kind": _ANY,
            "metadata": _object({"name": _text(_SUBDOMAIN)}, _METADATA),
            "immutable": {"type": "boolean"},
            "data": _map(_FILE, _ANY),
        }
    ),
    "CronJob": _object(
        {
            "apiVersion": {"const": "batch/v1"},
            "kind": _ANY,
            "metadata": _object({"name": _text(_SUBDOMAIN, MAX_CRON_NAME)}, _METADATA),
            "spec": _object(
                {
                    "schedule": _ANY,
                    "timeZone": _ANY,
                    "concurrencyPolicy": {"enum": ["Allow", "Forbid", "Replace"]},
                    "jobTemplate": _object(
                        {
                            "metadata": _object(
                                {"labels": _LABELS, "annotations": _METADATA["annotations"]}
                            ),
                            "spec": _JOB_SPEC,
                        }
                    ),
                },
                {"startingDeadlineSeconds": _number(0)},
            ),
        }
    ),
}


def validate(text: str) -> list[str]:
    """Return the faults of a document with a Job, empty if there are no faults."""
    try:
        job = read.parse(text)
    except (ValueError, yaml.YAMLError) as error:
        return [f"the document cannot be read: {error}"]
    return [*_of_schema(job, _JOB), *_too_large(text)] or [*_of_job(job)]


def validate_setup(text: str) -> list[str]:
    """Return the faults of the document with the objects that exist before a Job."""
    try:
        objects = read.parse_all(text)
    except (ValueError, yaml.YAMLError) as error:
        return [f"the document cannot be read: {error}"]
    found = [*_too_large(text)]
    for one in objects:
        schema = _SETUP.get(str(one.get("kind")))
        if schema is None:
            found.append(f"kind: {one.get('kind')!r} is not expected here")
            continue
        wrong = [*_of_schema(one, schema)]
        if one["kind"] == "CronJob" and not wrong:
            wrong = [*_of_schedule(one["spec"]), *_of_job(one["spec"]["jobTemplate"])]
        found += wrong
    return found


def _of_job(job: Mapping[str, Any]) -> Iterator[str]:
    yield from (*_run(job), *_volumes(job), *_amounts(job), *_annotations(job))


def _of_schedule(spec: Mapping[str, Any]) -> Iterator[str]:
    try:
        service_cron(check_cron(spec["schedule"]))
        check_timezone(spec["timeZone"])
    except UsageError as error:
        yield f"the schedule: {error.message}"


def _of_schema(value: Any, schema: Found) -> Iterator[str]:
    for path, reason in reasons(value, schema):
        yield f"{'.'.join(map(str, path)) or 'the document'}: {reason}"


def _too_large(text: str) -> Iterator[str]:
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        yield f"the document has more than {MAX_DOCUMENT_BYTES:,} bytes"


def _run(job: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of variables, and of what the arguments pass to a step."""
    found = container(job)
    names = [one["name"] for one in found["env"]]
    yield from (f"the variable {name} is set twice" for name in _twice(names))
    for number, one in enumerate(found["env"]):
        for name in references(one.get("value", "")):
            if name not in names[:number]:
                yield f"the variable {one['name']} refers to {name}, which is not set before it"
    for word in (*found["command"], *found["args"]):
        for name in references(word):
            if name not in names:
                yield f"an argument refers to {name}, which is no variable"
    pairs = dict(zip(found["args"], found["args"][1:], strict=False))
    for parameter, option in ((parameters.STORE, "store"), (parameters.EXECUTION, "execution")):
        name = variable(parameter)
        if pairs.get(f"--{option}") != f"$({name})":
            yield f"the argument --{option} is not the variable {name}"
    if pairs.get("--outcome-file") != found["terminationMessagePath"]:
        yield "the outcome is not the message of the container"
    if "--step" not in pairs or not references(pairs.get("--run", "")):
        yield "the arguments start no step of a run"


def _volumes(job: Mapping[str, Any]) -> Iterator[str]:
    volumes = [one["name"] for one in job["spec"]["template"]["spec"]["volumes"]]
    mounts = container(job)["volumeMounts"]
    used = [one["name"] for one in mounts]
    yield from (f"two volumes are called {name}" for name in _twice(volumes))
    for path in _twice(one["mountPath"] for one in mounts):
        yield f"two volumes are mounted at {path}"
    yield from (f"there is no volume {name}" for name in sorted({*used} - {*volumes}))
    yield from (f"the volume {name} is not mounted" for name in sorted({*volumes} - {*used}))


def _amounts(job: Mapping[str, Any]) -> Iterator[str]:
    resources = container(job)["resources"]
    for name, limit in resources["limits"].items():
        requested = resources["requests"].get(name, limit)
        if _size(requested) > _size(limit):
            yield f"more {name} is requested ({requested}) than the limit allows ({limit})"
        if "/" in name and requested != limit:
            yield f"the request of {name} is not its limit"


def _size(quantity: str) -> float:
    if quantity.endswith("m"):
        return amounts.cores(quantity)
    return amounts.size(quantity)


def _annotations(job: Mapping[str, Any]) -> Iterator[str]:
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        texts = metadata.get("annotations", {}).items()
        if sum(len(f"{key}{text}".encode()) for key, text in texts) > _MOST_ANNOTATIONS_BYTES:
            yield f"the annotations have more than {_MOST_ANNOTATIONS_BYTES:,} bytes"


def _twice(names: Iterable[str]) -> list[str]:
    listed = [*names]
    return sorted({name for name in listed if listed.count(name) > 1})
