"""Write a Job that runs a whole flow, and the objects that exist before it.

Nothing in Kubernetes waits for a Job and starts the next one. So one process runs the flow from its
start, or from the last answer, to its end or to the next wait. It records every checkpoint on its
own, and a pod that is started again continues after the last one. At a wait, the Job succeeds, and
the answer creates the next Job.

A Job has no parameters. The values of a run are environment variables, and the arguments refer to
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire import canonical
from kitaru.wire.plan import OWN_DEFAULT, Plan, PlannedSchedule, Step
from kitaru_targets.base import ContainerSpec, Emission, Form
from kitaru_targets.common import (
    kubernetes,
    options,
    parameters,
    schedules,
    variables,
    yaml,
)
from kitaru_targets.common.node_names import slug
from kitaru_targets.kubernetes import profile
from kitaru_targets.kubernetes.job import CONTAINER, INPUT_PREFIX, literal, variable
from kitaru_targets.kubernetes.profile import MAX_CRON_NAME, MAX_PREFIX, OPTIONS, SETUP

SOURCE = "kitaru.dev/source"
# The kubelet shows the content of this file as the message of the container that ended.
MESSAGE = "/dev/termination-log"
_JOB_NAME = "metadata.labels['batch.kubernetes.io/job-name']"
# The name of a run is the same for each pod of a Job.
_RUN = {"KITARU_NAMESPACE": "metadata.namespace", "KITARU_JOB": _JOB_NAME}
_TMP, _PACKAGES, _PROGRAM = "/tmp", "/packages", "/opt/kitaru"
# The keys of the ConfigMap.
START, CODE = "start.py", "code"
_CODE_VARIABLE = "KITARU_CODE"
_REQUESTS = {"cpu": "500m", "memory": "1Gi"}
_GRACE_SECONDS = 30
_MOST_LINES = 200
# Exit codes that another attempt does not change: the flow has failed, or its start is wrong.
FINAL_CODES = (1, 2)


_FIRST = ("Apply it before the first run: kubectl apply -f setup.yaml",)


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `job.yaml` and `setup.yaml` for a plan with one step.

    Raises UsageError if a name, a variable or one of the project's options is not valid.
    """
    options.check("kubernetes", plan.options, OPTIONS)
    (step,) = plan.steps
    program = _config_map(plan, wiring)
    job = _job(plan, wiring, step, program)
    form = Form(job, partial(yaml.dump, header=(*wiring.about.header, *_reading(plan))))
    objects = [_service_account(plan), *([program] if program else [])]
    if planned := schedules.native(plan, wiring):
        objects.append(_cron_job(plan, job, planned))
    setup = Form({one["kind"]: one for one in objects}, partial(yaml.dump_all, header=_FIRST))
    return Emission(
        form.text(),
        {step.name: step.name},
        {},
        files={SETUP: setup.text()},
        form=form,
        forms={SETUP: setup},
    )


def _reading(plan: Plan) -> tuple[str, ...]:
    named = f"{INPUT_PREFIX}{plan.parameters[0].name}" if plan.parameters else "KITARU_STORE"
    return (
        "Start a run: kubectl create -f job.yaml",
        f"The values of a run are variables, such as {named}. In them, $$ is a dollar sign, and",
        f"{OWN_DEFAULT} is a value that was not given.",
    )


def _chosen(plan: Plan, option: str) -> str:
    return plan.options.get(option, profile.DEFAULTS[option])


def _job(
    plan: Plan, wiring: ContainerSpec, step: Step, program: Mapping[str, Any] | None
) -> dict[str, Any]:
    pod = kubernetes.pod(plan)
    labels = {**pod.labels, **_labels(plan)}
    source = "\n".join(wiring.about.blocks[:_MOST_LINES]) or wiring.about.step(step)
    final = {"containerName": CONTAINER, "operator": "In", "values": [*FINAL_CODES]}
    policy = {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": final},
        ]
    }
    about = "A drained node costs no attempt. A flow that has failed does not run again by itself."
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{_name(plan, MAX_PREFIX - 1)}-",
            **_namespace(plan),
            "labels": labels,
            "annotations": {**pod.annotations, SOURCE: source},
        },
        "spec": {
            "backoffLimit": int(_chosen(plan, profile.ATTEMPTS)),
            "activeDeadlineSeconds": int(_chosen(plan, profile.SECONDS)),
            "ttlSecondsAfterFinished": int(_chosen(plan, profile.KEPT)),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": yaml.Noted(about, policy),
            "template": {
                "metadata": {
                    "labels": labels,
                    **({"annotations": pod.annotations} if pod.annotations else {}),
                },
                "spec": _pod_spec(plan, wiring, step, pod, program),
            },
        },
    }


def _pod_spec(
    plan: Plan,
    wiring: ContainerSpec,
    step: Step,
    pod: kubernetes.Pod,
    program: Mapping[str, Any] | None,
) -> dict[str, Any]:
    volumes, mounts = kubernetes.secret_mounts(pod)
    for name, path in (("tmp", _TMP), *([("packages", _PACKAGES)] if _installs(wiring) else [])):
        volumes.append({"name": name, "emptyDir": {}})
        mounts.append({"name": name, "mountPath": path})
    command, arguments = [*wiring.command], [*map(literal, wiring.leading)]
    if program:
        named = program["metadata"]["name"]
        files = {"name": named, "items": [{"key": START, "path": START}]}
        volumes.append({"name": "program", "configMap": files})
        mounts.append({"name": "program", "mountPath": _PROGRAM, "readOnly": True})
        command = [*command[: command.index("-c")], f"{_PROGRAM}/{START}"]
        if CODE in program["data"]:
            arguments[0] = f"$({_CODE_VARIABLE})"
    user = int(_chosen(plan, profile.USER))
    return {
        "restartPolicy": "Never",
        "serviceAccountName": _chosen(plan, profile.ACCOUNT),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **kubernetes.scheduling(pod),
        "containers": [
            {
                "name": CONTAINER,
                "image": wiring.image,
                "command": [*map(literal, command)],
                "args": [*arguments, *_arguments(plan, step)],
                "env": _environment(plan, wiring, pod, program),
                "resources": _resources(kubernetes.quantities(step.resources)),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "terminationMessagePath": MESSAGE,
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }


def _arguments(plan: Plan, step: Step) -> list[str]:
    inputs = [
        *("--inputs-env", INPUT_PREFIX),
        *("--inputs-key", _reference(parameters.INPUTS)),
    ]
    return [
        *("--step", literal(step.name)),
        *("--run", "$(KITARU_NAMESPACE)/$(KITARU_JOB)"),
        *("--store", _reference(parameters.STORE)),
        *("--execution", _reference(parameters.EXECUTION)),
        *(inputs if plan.parameters else []),
        *("--outcome-file", MESSAGE),
    ]


def _reference(parameter: str) -> str:
    return f"$({variable(parameter)})"


def _environment(
    plan: Plan, wiring: ContainerSpec, pod: kubernetes.Pod, program: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the variables: the values of a run, those of the container, and the project's own.

    Raises UsageError if the project sets one that has another meaning here.
    """
    declared = parameters.declared(plan, wiring.store, wiring.execution)
    given = {one.name: OWN_DEFAULT if one.default is None else one.default for one in declared}
    if not wiring.store:
        given[parameters.STORE] = ""
    found: list[dict[str, Any]] = [
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in _RUN.items()
        ),
        *(_plain(variable(name), parameters.as_text(value)) for name, value in given.items()),
        # The only folders in which the container may write.
        _plain("HOME", _TMP),
    ]
    if _installs(wiring):
        found += [_plain("PIP_TARGET", _PACKAGES), _plain("PYTHONPATH", _PACKAGES)]
    if program and CODE in program["data"]:
        source = {"name": program["metadata"]["name"], "key": CODE}
        found.append({"name": _CODE_VARIABLE, "valueFrom": {"configMapKeyRef": source}})
    own = {one["name"] for one in found}
    chosen = variables.environment(wiring.environment)
    if taken := sorted(own & chosen.keys()):
        raise UsageError(
            f"Environment variable {taken[0]!r} cannot be set for a Job.",
            help="It has another meaning there. Use another name in [tool.kitaru.environment].",
        )
    plain = [_plain(name, value) for name, value in chosen.items()]
    return [*found, *plain, *kubernetes.secret_variables(pod)]


def _plain(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": literal(value)}


def _resources(asked: Mapping[str, str]) -> dict[str, Any]:
    """Return what is requested. Only memory and GPUs are limited: a limit of CPU slows a flow."""
    requests = {**_REQUESTS, **asked}
    return {"requests": requests, "limits": {n: q for n, q in requests.items() if n != "cpu"}}


def _installs(wiring: ContainerSpec) -> bool:
    """Return whether the container fetches its code, and installs what the image lacks."""
    return wiring.leading[0].startswith("sha256:")


def _config_map(plan: Plan, wiring: ContainerSpec) -> dict[str, Any] | None:
    """Return the object with the program that starts the flow; None if the image contains it."""
    if "-c" not in wiring.command:
        return None
    data = {START: wiring.command[-1]}
    if wiring.leading[0].startswith("inline:"):
        data[CODE] = wiring.leading[0]
    digest = canonical.digest(data).removeprefix("sha256:")[:10]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"kitaru-{_name(plan, 40)}-{digest}", **_described(plan)},
        "immutable": True,
        "data": data,
    }


def _cron_job(plan: Plan, job: Mapping[str, Any], planned: PlannedSchedule) -> dict[str, Any]:
    """Return the object that starts a run by schedule; it runs the same Job as `job.yaml`.

    The cluster names a Job after the CronJob and the minute, so that a tick has one Job.
    """
    metadata = {name: job["metadata"][name] for name in ("labels", "annotations")}
    late = {"startingDeadlineSeconds": schedules.LATE_SECONDS} if planned.catchup == "none" else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": _name(plan, MAX_CRON_NAME), **_namespace(plan), **metadata},
        "spec": {
            "schedule": planned.cron,
            "timeZone": planned.timezone,
            "concurrencyPolicy": "Allow" if planned.overlap == "allow" else "Forbid",
            **late,
            "jobTemplate": {"metadata": metadata, "spec": job["spec"]},
        },
    }


def _service_account(plan: Plan) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _chosen(plan, profile.ACCOUNT), **_namespace(plan)},
        "automountServiceAccountToken": False,
    }


def _described(plan: Plan) -> dict[str, Any]:
    return {**_namespace(plan), "labels": _labels(plan)}


def _namespace(plan: Plan) -> dict[str, str]:
    chosen = plan.options.get(profile.NAMESPACE)
    return {"namespace": chosen} if chosen else {}


def _labels(plan: Plan) -> dict[str, str]:
    name = _name(plan, MAX_PREFIX)
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "kitaru"}


def _name(plan: Plan, longest: int) -> str:
    return slug(plan.flow, fallback="flow", longest=longest)
