"""Write a WorkflowTemplate for Argo Workflows.

The flow is a DAG template (`dags`). Its steps are one pod each, of the few templates in which
containers differ. The program that fetches the flow's code is in a config map beside them, once and
as plain text. Values of the run are parameters, and what a step says are its output parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Resources, Step
from kitaru.wire.structs import Struct
from kitaru_targets import delivery
from kitaru_targets.argo import conditions, dags, profile
from kitaru_targets.argo.dags import ITEMS, NEXT, ROUND, SECONDS, STATUS, Dag, Task
from kitaru_targets.base import ContainerSpec, Emission, Form
from kitaru_targets.common import (
    kubernetes,
    limits,
    options,
    parameters,
    schedules,
    variables,
    yaml,
)
from kitaru_targets.common.native_limits import runs_at_once
from kitaru_targets.common.node_names import Keys, slug

API = "argoproj.io/v1alpha1"
INPUT_VARIABLE = "KITARU_INPUT_"
CONTAINER, WAIT = "step", "wait-for-answer"
# The names of the run in the records of an execution: unique, and with what finds it again.
RUN = "{{workflow.namespace}}/{{workflow.name}}/{{workflow.uid}}"
DURATION = f"{{{{inputs.parameters.{SECONDS}}}}}"
WAITS = "waits for its time, or for: kitaru executions input EXECUTION"
FOLDER = "/tmp/kitaru"
PROGRAM_FOLDER, PROGRAM_FILE = "/kitaru", "start.py"
PROGRAM_VOLUME = "kitaru-start"
AGAIN = f"{{{{=asInt(inputs.parameters.{ROUND}) + 1}}}}"
LESS = f"{{{{inputs.parameters.{ROUND}}}}} < {profile.MAX_ROUNDS}"
# A step that was started wrongly fails in the same way again.
WORTH_RETRYING = "asInt(lastRetry.exitCode) != 2 && asInt(lastRetry.exitCode) != 3"
_DIGITS = 8
_YEAR_SECONDS = 31_536_000


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `workflow.yaml` for a plan: the template, and the program if steps fetch their code.

    Raises:
        SourceError: the document is larger than a cluster stores.
        UsageError: a name, or one of the project's options for the target, is not valid in it.
    """
    options.check("argo", plan.options, profile.OPTIONS)
    for text in (*plan.options.values(), *wiring.environment.values(), wiring.store, wiring.image):
        if "{{" in text:
            raise UsageError(
                f"Argo would replace the text {text!r}: it contains {{{{.",
                help="Change this option, variable, image or store.",
            )
    document = _Document(plan, wiring)
    made = {one["kind"]: one for one in (document.template(), *document.program())}
    form = Form(made, partial(yaml.dump_all, header=wiring.about.header))
    text = form.text()
    limits.check_size(plan, text, profile.LIMITS)
    tasks = [task for dag in document.dags for task in dag.tasks]
    return Emission(
        text,
        {task.key: task.step.name for task in tasks if task.step},
        {task.key: task.span for task in tasks if task.step is None and task.span},
        tuple(task.key for task in tasks if task.is_wait),
        _schedule(plan, wiring),
        form,
    )


def _schedule(plan: Plan, wiring: ContainerSpec) -> dict[str, str]:
    """Return the CronWorkflow by the name of its file.

    The controller names a run after the CronWorkflow and the instant, so that a tick has one run.
    """
    planned = schedules.native(plan, wiring)
    if planned is None:
        return {}
    name = name_of(plan.flow)
    late = schedules.LATE_SECONDS if planned.catchup == "none" else _YEAR_SECONDS
    made = {
        "apiVersion": API,
        "kind": "CronWorkflow",
        "metadata": {"name": name, "labels": {"kitaru.dev/flow": name}},
        "spec": {
            "schedules": [planned.cron],
            "timezone": planned.timezone,
            "concurrencyPolicy": "Allow" if planned.overlap == "allow" else "Forbid",
            "startingDeadlineSeconds": late,
            "workflowSpec": {"workflowTemplateRef": {"name": name}},
        },
    }
    return {profile.SCHEDULE: yaml.dump(made, wiring.about.header)}


def name_of(flow: str) -> str:
    """Return the name of a flow's template.

    >>> name_of("review_flow")
    'review-flow'
    """
    return slug(flow, fallback="flow", longest=profile.MAX_NAME)


class _Kind(Struct):
    """What distinguishes the containers of one template from those of another."""

    is_item: bool
    retries: tuple[float, ...]
    resources: Resources

    @property
    def base(self) -> str:
        base = "call" if self.is_item else "step"
        return f"{base}-with-retries" if self.retries else base


class _Document:
    def __init__(self, plan: Plan, wiring: ContainerSpec) -> None:
        self._plan = plan
        self._wiring = wiring
        self._pod = kubernetes.pod(plan)
        self._volumes, self._mounts = kubernetes.secret_mounts(self._pod)
        self._declared = parameters.declared(plan, wiring.store, wiring.execution)
        self._program = delivery.program() in wiring.command
        self._lists = any(True for _ in _fans(plan.layout))
        keys = Keys(longest=profile.MAX_KEY)
        self._kinds: dict[_Kind, str] = {}
        for step in plan.steps:
            kind = self._kind(step)
            if kind not in self._kinds:
                self._kinds[kind] = keys.take(kind.base, fallback="step")
        self._wait = keys.take(WAIT, fallback="wait")
        self._name = name_of(plan.flow)
        self.dags = dags.build(plan, self._name, keys)
        self._has_waits = any(task.is_wait for dag in self.dags for task in dag.tasks)

    def template(self) -> dict[str, Any]:
        """Return the WorkflowTemplate."""
        plan, chosen = self._plan, self._plan.options
        labels = {"kitaru.dev/flow": self._name}
        return {
            "apiVersion": API,
            "kind": "WorkflowTemplate",
            "metadata": {"name": self._name, "labels": labels},
            "spec": {
                "entrypoint": self.dags[0].key,
                "serviceAccountName": chosen.get(profile.SERVICE_ACCOUNT, "kitaru"),
                "parallelism": plan.max_parallel,
                **self._synchronization(),
                "podGC": {"strategy": "OnPodSuccess"},
                **self._ttl(),
                "workflowMetadata": {"labels": labels},
                "podMetadata": self._pod_metadata(),
                **kubernetes.scheduling(self._pod),
                **self._all_volumes(),
                "arguments": {"parameters": [_parameter(one) for one in self._declared]},
                "templates": [*self._dags(), *self._waits(), *self._containers()],
            },
        }

    def program(self) -> Iterator[dict[str, Any]]:
        """Yield the config map with the program that starts steps, if they need it."""
        if self._program:
            yield {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": program_name()},
                "immutable": True,
                "data": {PROGRAM_FILE: delivery.program()},
            }

    def _synchronization(self) -> dict[str, Any]:
        name, _, key = self._plan.options.get(profile.SEMAPHORE, "").partition("/")
        chosen = {"configMapKeyRef": {"name": name, "key": key}}
        alone = runs_at_once(self._plan, self._wiring) == 1
        made = {
            **({"semaphores": [chosen]} if name else {}),
            **({"mutexes": [{"name": f"kitaru-{self._name}"}]} if alone else {}),
        }
        return {"synchronization": made} if made else {}

    def _ttl(self) -> dict[str, Any]:
        seconds = self._plan.options.get(profile.KEEP_SECONDS)
        return {"ttlStrategy": {"secondsAfterCompletion": int(seconds)}} if seconds else {}

    def _pod_metadata(self) -> dict[str, Any]:
        labels = {"kitaru.dev/flow": self._name, **self._pod.labels}
        annotations = {"annotations": self._pod.annotations} if self._pod.annotations else {}
        return {"labels": labels, **annotations}

    def _all_volumes(self) -> dict[str, Any]:
        volumes = list(self._volumes)
        if self._program:
            volumes.append({"name": PROGRAM_VOLUME, "configMap": {"name": program_name()}})
        return {"volumes": volumes} if volumes else {}

    def _dags(self) -> Iterator[dict[str, Any]]:
        for dag in self.dags:
            inputs = [{"name": name} for name in dag.inputs]
            yield {
                "name": dag.key,
                **({"inputs": {"parameters": inputs}} if inputs else {}),
                "dag": {
                    # A call whose pod failed is made by the step behind.
                    **({"failFast": False} if any(task.each for task in dag.tasks) else {}),
                    "tasks": [self._task(task, dag) for task in dag.tasks],
                },
            }

    def _task(self, task: Task, dag: Dag) -> dict[str, Any]:
        again = task.template is dag
        made: dict[str, Any] = {"name": task.key, "template": self._template_of(task)}
        if task.needs:
            made["depends"] = " && ".join(task.needs)
        if task.tests:
            made["when"] = conditions.write(task.tests, LESS if again else "")
        if task.each:
            made["withParam"] = task.each
        given = {ROUND: AGAIN} if again else dict(task.arguments)
        if task.step:
            given["step"] = task.step.name
        if task.each:
            given["item"] = "{{item}}"
        if given:
            pairs = [{"name": name, "value": value} for name, value in given.items()]
            made["arguments"] = {"parameters": pairs}
        return yaml.Noted(self._note(task), made)

    def _template_of(self, task: Task) -> str:
        if task.template:
            return task.template.key
        return self._kinds[self._kind(task.step)] if task.step else self._wait

    def _note(self, task: Task) -> str:
        if task.step:
            return self._wiring.about.step(task.step)
        place = f"{task.span.file}:{task.span.line}" if task.span else ""
        what = WAITS if task.is_wait else task.note
        return " - ".join(part for part in (place, what) if part)

    def _waits(self) -> Iterator[dict[str, Any]]:
        if self._has_waits:
            # The controller resumes the node at the deadline, and the next step lets it expire.
            inputs = {"parameters": [{"name": SECONDS}]}
            yield {"name": self._wait, "inputs": inputs, "suspend": {"duration": DURATION}}

    def _kind(self, step: Step) -> _Kind:
        native = step.retry == "native" and step.retries > 0
        retries = (step.retries, step.retry_delay, step.backoff) if native else ()
        return _Kind(step.per_item > 0, retries, step.resources)

    def _containers(self) -> Iterator[dict[str, Any]]:
        used = {self._template_of(task) for dag in self.dags for task in dag.tasks}
        for kind, name in self._kinds.items():
            if name in used:
                yield self._container(kind, name)

    def _container(self, kind: _Kind, name: str) -> dict[str, Any]:
        inputs = ["step", *(["item"] if kind.is_item else [])]
        seconds = self._plan.options.get(profile.SECONDS)
        deadline = {"activeDeadlineSeconds": int(seconds)} if seconds else {}
        outputs = {
            "outputs": {
                "parameters": [
                    {"name": output, "valueFrom": {"path": f"{FOLDER}/{output}"}}
                    for output in self._outputs(kind)
                ]
            }
        }
        return {
            "name": name,
            "inputs": {"parameters": [{"name": one} for one in inputs]},
            **({} if kind.is_item else outputs),
            **_retries(kind.retries),
            **deadline,
            "container": {
                "image": self._wiring.image,
                "command": self._command(),
                "args": [*self._wiring.leading, *self._arguments(kind)],
                "env": self._environment(kind),
                **_sizes(kind.resources),
                **self._all_mounts(),
            },
        }

    def _outputs(self, kind: _Kind) -> Sequence[str]:
        if kind.is_item:
            return ()
        lists = (ITEMS,) if self._lists else ()
        return (NEXT, STATUS, *lists, *((SECONDS,) if self._has_waits else ()))

    def _command(self) -> list[str]:
        if not self._program:
            return [*self._wiring.command]
        return [*delivery.PYTHON, f"{PROGRAM_FOLDER}/{PROGRAM_FILE}"]

    def _arguments(self, kind: _Kind) -> list[str]:
        given = {
            "step": "{{inputs.parameters.step}}",
            "run": RUN,
            "execution": f"{{{{workflow.parameters.{parameters.EXECUTION}}}}}",
        }
        if kind.is_item:
            given["item"] = "{{inputs.parameters.item}}"
        for output in self._outputs(kind):
            given[f"{output}-file"] = f"{FOLDER}/{output}"
        if SECONDS in self._outputs(kind):
            given["longest-wait"] = str(_YEAR_SECONDS)
        if not kind.is_item and self._plan.parameters:
            given["inputs-env"] = INPUT_VARIABLE
            given["inputs-key"] = f"{{{{workflow.parameters.{parameters.INPUTS}}}}}"
        # The program that fetches the code reads this argument, too, as two words.
        store = ["--store", f"{{{{workflow.parameters.{parameters.STORE}}}}}"]
        return [*store, *(f"--{name}={value}" for name, value in given.items())]

    def _environment(self, kind: _Kind) -> list[dict[str, Any]]:
        plain = variables.environment(self._wiring.environment)
        found: list[dict[str, Any]] = [{"name": n, "value": v} for n, v in plain.items()]
        found += kubernetes.secret_variables(self._pod)
        if not kind.is_item:
            found += [
                {"name": f"{INPUT_VARIABLE}{p.name}",
                 "value": f"{{{{workflow.parameters.{p.name}}}}}"}
                for p in self._plan.parameters
            ]  # fmt: skip
        return found

    def _all_mounts(self) -> dict[str, Any]:
        mounts = list(self._mounts)
        if self._program:
            mounts.append({"name": PROGRAM_VOLUME, "mountPath": PROGRAM_FOLDER, "readOnly": True})
        return {"volumeMounts": mounts} if mounts else {}


def program_name() -> str:
    """Return the name of the config map with the program, which contains the program's digest."""
    digest = sha256(delivery.program().encode()).removeprefix("sha256:")
    return f"{PROGRAM_VOLUME}-{digest[:_DIGITS]}"


def text_of(value: Any) -> str:
    """Return the value of a parameter as the text that Argo takes."""
    return value if isinstance(value, str) else json.dumps(value)


def _parameter(declared: parameters.Declared) -> dict[str, Any]:
    value = {} if declared.default is None else {"value": text_of(declared.default)}
    description = {"description": declared.description} if declared.description else {}
    return {"name": declared.name, **value, **description}


def _retries(given: tuple[float, ...]) -> dict[str, Any]:
    if not given:
        return {}
    limit, delay, factor = given
    return {
        "retryStrategy": {
            "limit": str(int(limit)),
            "retryPolicy": "Always",
            "expression": WORTH_RETRYING,
            "backoff": {
                "duration": f"{max(1, math.ceil(delay))}s",
                "factor": f"{max(1, math.ceil(factor))}",
                "cap": "1h",
            },
        }
    }


def _sizes(asked: Resources) -> dict[str, Any]:
    found = kubernetes.quantities(asked)
    return {"resources": {"requests": found, "limits": found}} if found else {}


def _fans(items: Sequence[LayoutItem]) -> Iterator[FanItem]:
    for item in items:
        if isinstance(item, FanItem):
            yield item
        elif isinstance(item, BranchItem):
            for arm in item.arms:
                yield from _fans(arm)
