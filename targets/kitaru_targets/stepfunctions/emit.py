"""Write a state machine in the Amazon States Language, and the task definition of its steps.

A plan is a state machine already: one task for each step, and a choice on what the step said where
more than one state can follow. A join is two states with one `Next`. Only a loop that was written
in Python stays inside its step.

`ecs:runTask.sync` sees at once that a container died, but returns nothing that the container says.
A step therefore writes its outcome to the store, and the next state reads it. The values of a run
are below `$.given`, what the last step said is `$.last.said`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kitaru.wire.plan import OWN_DEFAULT, Plan, Resources, Span, Step
from kitaru_targets.base import About, ContainerSpec, Emission, Form
from kitaru_targets.common import (
    aws,
    chain,
    json_format,
    limits,
    options,
    parameters,
    schedules,
    variables,
)
from kitaru_targets.common.node_names import slug
from kitaru_targets.stepfunctions import profile
from kitaru_targets.stepfunctions.profile import LIMITS, MAX_INLINE, MAX_STEP_NAME, TASK_DEFINITION

RUN_TASK = "arn:aws:states:::ecs:runTask.sync"
READ = "arn:aws:states:::aws-sdk:s3:getObject"
ASK = "arn:aws:states:::aws-sdk:s3:putObject.waitForTaskToken"
CONTAINER = "kitaru"
INPUT_VARIABLE = "KITARU_INPUT_"
# The argument of a step whose outcome the next state reads.
OUTCOME_KEY = "--outcome-key"
LONGEST_WAIT = "--longest-wait"
# What a waiting step says: when it has to start again, and in how many seconds.
UNTIL, SECONDS = "$.last.said.wait.until", "$.last.said.wait.seconds"
# Parameters of a run in addition to those of every target.
BUCKET, PREFIX, TASK = "kitaru_bucket", "kitaru_prefix", "kitaru_task_definition"
CLUSTER, SUBNETS, GROUPS = "kitaru_cluster", "kitaru_subnets", "kitaru_security_groups"
# States without a step. No step has such a name, because a hyphen is in no name of Python.
DEFAULTS, START = "read-defaults", "read-inputs"
ROUTE, LOST, RETURNED = "find-step", "lost-control", "flow-returned"
WAIT, SLEEP, AGAIN = "wait-again", "sleep-again", "start-again"
_PLAIN = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_STEP_NAME}}}", re.ASCII)
_DAY_SECONDS = 86_400
# Faults of the services, which run the same task again.
FAULTS = (
    "ECS.AmazonECSException",
    "AmazonECS.Unknown",
    "ECS.ServerException",
    "ECS.ThrottlingException",
)
S3_FAULTS = ("S3.S3Exception", "S3.SdkClientException")
_CPU, _MEMORY = "512", "1024"
_HOUR = 3_600


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `state-machine.json` and `task-definition.json` for a plan.

    Raises:
        SourceError: a part exceeds a limit of the service.
        UsageError: a name, or one of the project's options for the target, is not valid in it.
    """
    options.check("stepfunctions", plan.options, profile.OPTIONS)
    declared = parameters.declared(plan, wiring.store, wiring.execution)
    limits.check(plan, wiring, declared, LIMITS)
    machine = _Machine(plan, wiring.about, defaults(plan, wiring, declared))
    form = Form(machine.document(), json_format.dump_file)
    text = form.text()
    limits.check_size(plan, text, LIMITS)
    task = Form(_task_definition(plan, wiring), json_format.dump_file)
    asks = tuple(machine.asking)
    files = {TASK_DEFINITION: task.text(), **_schedule(plan, wiring)}
    return Emission(text, machine.nodes, machine.groups, asks, files, form, {TASK_DEFINITION: task})


def _schedule(plan: Plan, wiring: ContainerSpec) -> dict[str, str]:
    """Return the schedule that starts the state machine, by the name of its file."""
    planned = schedules.native(plan, wiring)
    if planned is None:
        return {}
    needed = (profile.SCHEDULER_ROLE, profile.MACHINE, profile.CLUSTER, aws.SUBNETS, aws.GROUPS)
    role, machine, *_ = schedules.aws_options(plan, "stepfunctions", *needed)
    given = {parameters.EXECUTION: schedules.aws_execution(plan)}
    made = schedules.aws_schedule(plan, planned, role, machine, given)
    return {schedules.AWS_FILE: made}


def defaults(
    plan: Plan, wiring: ContainerSpec, declared: Sequence[parameters.Declared]
) -> dict[str, Any]:
    """Return the values of a run that need not be given, by the names of its parameters."""
    given: dict[str, Any] = {
        one.name: one.default if one.default != "" or not is_own(one.name) else OWN_DEFAULT
        for one in declared
        if one.default is not None
    }
    chosen = plan.options
    given[TASK] = family(plan.flow)
    if wiring.store.startswith("s3://"):
        given |= place(wiring.store)
    if profile.CLUSTER in chosen:
        given[CLUSTER] = chosen[profile.CLUSTER]
    for name, option in ((SUBNETS, aws.SUBNETS), (GROUPS, aws.GROUPS)):
        if option in chosen:
            given[name] = [*options.parts(chosen[option])]
    return given


def is_own(name: str) -> bool:
    """Return whether a parameter is Kitaru's own, which is left out if it is empty."""
    return name.startswith("kitaru_")


def place(store: str) -> dict[str, str]:
    """Return where the state machine itself finds a store of `s3://BUCKET/PREFIX`.

    >>> place("s3://bucket/agents")
    {'kitaru_bucket': 'bucket', 'kitaru_prefix': 'agents/'}
    """
    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return {BUCKET: bucket, PREFIX: f"{prefix}/" if prefix else ""}


def family(flow: str) -> str:
    """Return the family of a flow's task definition."""
    return f"kitaru-{slug(flow, fallback='flow')}"


class _Machine:
    def __init__(self, plan: Plan, about: About, given: dict[str, Any]) -> None:
        self._plan = plan
        self._about = about
        self._given = given
        self._steps = {step.name: step for step in plan.steps if not step.per_item}
        self._entries = {step.entry: step for step in self._steps.values()}
        self._fans = chain.fans(plan.layout)
        self._key: dict[str, str] = {}
        for step in plan.steps:
            self._key[step.name] = self._name(step.name)
        self._asked_by = {
            step.name: [
                taker
                for taker in self._steps.values()
                if plan.block(taker.entry).kind == "wait"
                and taker.entry in step.blocks
                and taker is not step
            ]
            for step in self._steps.values()
        }
        self._waiting = self._may_wait_later()
        self._states: dict[str, Any] = {}
        self._asks: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        self.groups: dict[str, Span] = {}

    @property
    def asking(self) -> list[str]:
        return [*self._asks.values()]

    def document(self) -> dict[str, Any]:
        plan = self._plan
        merged = "States.JsonMerge($.defaults, $$.Execution.Input, false)"
        started = "States.Format('{}/{}/{}', $$.StateMachine.Name, $$.Execution.StartTime, "
        self._states[DEFAULTS] = {
            "Type": "Pass",
            "Comment": "The values that a run need not give.",
            "Result": self._given,
            "ResultPath": "$.defaults",
            "Next": START,
        }
        self._states[START] = {
            "Type": "Pass",
            "Comment": "The values of this run, its name, and where its steps write outcomes.",
            "Parameters": {
                "given.$": merged,
                "run.$": f"{started}$$.Execution.Id)",
                "native.$": "States.Format('native/{}/{}', $$.StateMachine.Name, "
                "$$.Execution.Name)",
            },
            "Next": self._start(),
        }
        for step in self._steps.values():
            self._step(step)
        if any(state["Type"] == "Choice" for state in self._states.values()):
            self._hub()
        self._states[RETURNED] = {"Type": "Succeed", "Comment": f"{plan.flow} has ended."}
        return {
            "Comment": shown(" ".join(self._about.header)) or plan.flow,
            "StartAt": DEFAULTS,
            "States": self._states,
        }

    def _start(self) -> str:
        """Return the first state: a step, or the nodes that a residual plan begins with."""
        first = next(iter(self._plan.layout), None)
        for name, item in self._fans.items():
            if item is first and not item.producer:
                key = self._key[name]
                self._states[f"{key}-items"] = {
                    "Type": "Pass",
                    "Comment": "The calls that no node has made.",
                    "Result": {"said": {"items": [*item.items]}},
                    "ResultPath": "$.last",
                    "Next": key,
                }
                self._map(self._plan.step(name))
                return f"{key}-items"
        return self._key[next(iter(self._steps))]

    def _name(self, name: str) -> str:
        """Return the name of a step's state, which is the step's own name if it is plain."""
        base = name if _PLAIN.fullmatch(name) else slug(name, fallback="step").replace("-", "_")
        base, number = base[:MAX_STEP_NAME], 2
        key = base
        while key in self._key.values():
            key = f"{base[: MAX_STEP_NAME - 4]}_{number}"
            number += 1
        return key

    def _may_wait_later(self) -> frozenset[str]:
        """Return the steps from which control may reach a wait, or which may wait themselves."""
        found = {
            name
            for name, step in self._steps.items()
            if step.may_wait or self._asked_by[name] or self._waits_itself(step)
        }
        while True:
            more = {
                name
                for name, step in self._steps.items()
                if name not in found
                and any(self._following(way).name in found for way in step.exits if way is not None)
            }
            if not more:
                return frozenset(found)
            found |= more

    def _waits_itself(self, step: Step) -> bool:
        """Return whether a run may wait in a step so that the same step has to start again."""
        if self._plan.block(step.entry).kind == "wait":
            return True
        if step.may_wait and not self._asked_by[step.name]:
            return True
        inside = (b for b in self._plan.blocks if b.name in step.blocks)
        return any(block.may_wait and block.kind != "wait" for block in inside)

    def _following(self, way: str) -> Step:
        return self._steps[way] if way in self._steps else self._entries[way]

    def _step(self, step: Step) -> None:
        key = self._key[step.name]
        fans = [
            self._plan.step(name)
            for name in self._fans
            if {*self._plan.step(name).blocks} <= {*step.blocks}
        ]
        ways = [None if way is None else self._following(way) for way in step.exits]
        decides = len(ways) != 1 or bool(fans) or step.name in self._waiting
        if not decides:
            (way,) = ways
            after = RETURNED if way is None else self._key[way.name]
            self._states[key] = self._task(step, key, after)
        else:
            self._states[key] = self._task(step, key, f"{key}-outcome", says=True)
            self._states[f"{key}-outcome"] = self._outcome(key, f"{key}-next")
            self._states[f"{key}-next"] = {
                "Type": "Choice",
                "Comment": f"Where the flow continues after {step.name}.",
                "Choices": self._choices(step, fans, ways),
                "Default": ROUTE,
            }
        for taker in self._asked_by[step.name]:
            self._ask(self._plan.block(taker.entry).name, taker)
        if self._waits_itself(step):
            self._ask(self._own_wait(step), step)
            if self._sleeps(step):
                self._states[self._sleep_of(step)] = self._sleeping(self._about.step(step), key)
                self.groups[self._sleep_of(step)] = step.span
        for fan in fans:
            if self._key[fan.name] not in self._states:
                self._map(fan)
        self.nodes[key] = step.name

    def _sleeps(self, step: Step) -> bool:
        """Return whether a step calls `kitaru.sleep`; a sleep that nobody sees is a wait."""
        inside = (b for b in self._plan.blocks if b.name in step.blocks)
        return any("sleep" in block.calls for block in inside)

    def _sleep_of(self, step: Step) -> str:
        return f"{self._key[step.name]}-sleep"

    def _own_wait(self, step: Step) -> str:
        entry = self._plan.block(step.entry)
        return entry.name if entry.kind == "wait" else step.name

    def _choices(self, step: Step, fans: Sequence[Step], ways: Sequence[Step | None]) -> list[Any]:
        found: list[Any] = [
            {"And": [_says("status", "waiting"), _says("next", taker.name)],
             "Next": self._wait_of(taker.entry)}
            for taker in self._asked_by[step.name]
        ]  # fmt: skip
        if self._waits_itself(step):
            if self._sleeps(step):
                rule = [_says("next", "end"), *_SLEEPS]
                found.append({"And": rule, "Next": self._sleep_of(step)})
            rule = [_says("status", "waiting"), _says("next", "end")]
            found.append({"And": rule, "Next": self._wait_of(self._own_wait(step))})
        found += [
            {"And": [_says("next", self._entries[fan.entry].name),
                     {"Variable": "$.last.said.items", "IsPresent": True}],
             "Next": self._key[fan.name]}
            for fan in fans
        ]  # fmt: skip
        # A wait for which this step has no rule of its own is found by the default.
        open_ended = step.name in self._waiting
        for way in ways:
            if way is not None:
                going = _says("next", way.name)
                rule_ = {"And": [_says("status", "go"), going]} if open_ended else going
                found.append({**rule_, "Next": self._key[way.name]})
        return [*found, {**_says("status", "end"), "Next": RETURNED}]

    def _hub(self) -> None:
        """Add the states for control that continued further than the next step.

        A cut is left out when a value cannot cross it. The process then continues with the next
        step, and may ask one of its waits.
        """
        choices: list[Any] = []
        if self._waiting:
            choices += [
                {"And": [_says("status", "waiting"), _says("next", taker.name)],
                 "Next": self._wait_of(taker.entry)}
                for taker in self._steps.values()
                if self._plan.block(taker.entry).kind == "wait" and taker.entry in self._asks
            ]  # fmt: skip
            if any(map(self._sleeps, self._steps.values())):
                choices.append({"And": [*_SLEEPS], "Next": SLEEP})
                self._states[SLEEP] = self._sleeping("A sleep of such a process", AGAIN)
                self.groups[SLEEP] = self._span()
            choices.append({**_says("status", "waiting"), "Next": WAIT})
        choices += [
            {"And": [_says("status", "go"), _says("next", name)], "Next": self._key[name]}
            for name in self._steps
        ]
        self._states[ROUTE] = {
            "Type": "Choice",
            "Comment": "Only after a process that continued with the next step, because a value "
            "could not be handed on.",
            "Choices": choices,
            "Default": LOST,
        }
        if self._waiting:
            self._states[WAIT] = self._asking("A wait of such a process", AGAIN)
            self._states[AGAIN] = {
                "Type": "Choice",
                "Comment": "The step that reads the answer.",
                "Choices": [
                    {**_says("wait.step", name), "Next": self._key[name]} for name in self._steps
                ],
                "Default": LOST,
            }
            self.groups[WAIT] = self._span()
            self._asks[WAIT] = WAIT
        self._states[LOST] = {
            "Type": "Fail",
            "Error": "Kitaru.Lost",
            "Cause": "The execution continued elsewhere. Resume: kitaru executions resume EXEC",
        }

    def _span(self) -> Span:
        return Span(self._plan.file, self._plan.line, 1, self._plan.line, 1)

    def _task(
        self, step: Step, key: str, after: str | None, *, says: bool = False, item: bool = False
    ) -> dict[str, Any]:
        words = [
            "'--step'", f"'{step.name}'", "'--run'", "$.run", "'--store'", "$.given.kitaru_store",
            "'--execution'", "$.given.kitaru_execution",
        ]  # fmt: skip
        if item:
            words += ["'--item'", "$.item"]
        if says:
            words += [f"'{OUTCOME_KEY}'", f"States.Format('{{}}/{key}.json', $.native)"]
            if self._waiting:
                words += [f"'{LONGEST_WAIT}'", f"'{self._number(profile.WAIT_SECONDS)}'"]
        inputs: list[dict[str, str]] = []
        if step.entry == self._plan.blocks[0].name and self._plan.parameters:
            words += ["'--inputs-env'", f"'{INPUT_VARIABLE}'"]
            words += ["'--inputs-key'", "$.given.kitaru_inputs"]
            inputs = [_input(one) for one in self._plan.parameters]
        arguments = f"States.Array({', '.join(words)})"
        container: dict[str, Any] = {"Name": CONTAINER, "Command.$": arguments}
        if inputs:
            container["Environment"] = inputs
        overrides = {"ContainerOverrides": [container]}
        follows = {"End": True} if after is None else {"Next": after}
        return {
            "Type": "Task",
            "Comment": shown(self._about.step(step)),
            "Resource": RUN_TASK,
            "Parameters": {
                "Cluster.$": f"$.given.{CLUSTER}",
                "TaskDefinition.$": f"$.given.{TASK}",
                "LaunchType": "FARGATE",
                "NetworkConfiguration": {
                    "AwsvpcConfiguration": {
                        "Subnets.$": f"$.given.{SUBNETS}",
                        "SecurityGroups.$": f"$.given.{GROUPS}",
                        "AssignPublicIp": self._plan.options.get(profile.PUBLIC, "DISABLED"),
                    }
                },
                "Overrides": {**_size(step.resources), **overrides},
            },
            "ResultPath": None,
            "TimeoutSeconds": self._number(profile.SECONDS),
            "Retry": [_retry(FAULTS, 5, 10), *_retries(step)],
            **follows,
        }

    def _number(self, option: str) -> int:
        return int(self._plan.options.get(option, _DAY_SECONDS))

    def _outcome(self, key: str, after: str) -> dict[str, Any]:
        return {
            "Type": "Task",
            "Comment": "What the step said: which step is next, and whether the run waits.",
            "Resource": READ,
            "Parameters": {
                "Bucket.$": f"$.given.{BUCKET}",
                "Key.$": f"States.Format('{{}}{{}}/{key}.json', $.given.{PREFIX}, $.native)",
            },
            "ResultSelector": {"said.$": "States.StringToJson($.Body)"},
            "ResultPath": "$.last",
            "Retry": [_retry(("States.ALL",), 5, 1)],
            "Next": after,
        }

    def _wait_of(self, name: str) -> str:
        return self._asks.get(name) or self._take_wait(name)

    def _take_wait(self, name: str) -> str:
        base = name if _PLAIN.fullmatch(name) else slug(name, fallback="wait").replace("-", "_")
        key, number = f"{base[:MAX_STEP_NAME]}-wait", 2
        while key in self._asks.values() or key in self._states:
            key = f"{base[: MAX_STEP_NAME - 4]}_{number}-wait"
            number += 1
        self._asks[name] = key
        return key

    def _ask(self, name: str, taker: Step) -> None:
        key = self._wait_of(name)
        if key not in self._states:
            self._states[key] = self._asking(self._about.step(taker), self._key[taker.name])
            self.groups[key] = taker.span

    def _asking(self, about: str, after: str) -> dict[str, Any]:
        """Return a state that writes its token into the store, where an answer finds it.

        It ends at the deadline of the wait, and at the latest after `wait_seconds`. Then the step
        looks for the answer by itself, and waits again without one.
        """
        where = f"States.Format('{{}}native/tokens/{{}}/{{}}.json', $.given.{PREFIX}, "
        return {
            "Type": "Task",
            "Comment": shown(f"{about} - waits for kitaru executions input"),
            "Resource": ASK,
            "Parameters": {
                "Bucket.$": f"$.given.{BUCKET}",
                "Key.$": f"{where}$.last.said.execution, $.last.said.wait.name)",
                "Body": {
                    "token.$": "$$.Task.Token",
                    "run.$": "$$.Execution.Id",
                    "since.$": "$$.State.EnteredTime",
                },
            },
            "ResultPath": None,
            "TimeoutSecondsPath": SECONDS,
            "Retry": [_retry(S3_FAULTS, 5, 10)],
            "Catch": [{"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": after}],
            "Next": after,
        }

    def _sleeping(self, about: str, after: str) -> dict[str, Any]:
        """Return a state that only waits; the step it leads to records the end of the sleep."""
        comment = shown(f"{about} - sleeps")
        return {"Type": "Wait", "Comment": comment, "TimestampPath": UNTIL, "Next": after}

    def _map(self, fan: Step) -> None:
        key = self._key[fan.name]
        after = self._key[self._entries[fan.entry].name]
        inner = f"{key}-call"
        many = self._plan.max_parallel > MAX_INLINE
        mode = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"} if many else {"Mode": "INLINE"}
        self._states[key] = {
            "Type": "Map",
            "Comment": shown(self._about.step(fan)),
            "ItemsPath": "$.last.said.items",
            "ItemSelector": {
                "item.$": "$$.Map.Item.Value",
                "run.$": "$.run",
                "given.$": "$.given",
            },
            "MaxConcurrency": self._plan.max_parallel,
            **({"ToleratedFailurePercentage": 100.0} if many else {}),
            "ItemProcessor": {
                "ProcessorConfig": mode,
                "StartAt": inner,
                "States": {inner: self._task(fan, key, None, item=True)},
            },
            "ResultPath": None,
            # The step behind makes the calls that no node made.
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": after}],
            "Next": after,
        }
        self.nodes[inner] = fan.name
        self.groups[key] = fan.span


def shown(text: str) -> str:
    """Return a text for people, without characters that a console would not show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _says(field: str, word: str) -> dict[str, Any]:
    return {"Variable": f"$.last.said.{field}", "StringEquals": word}


_SLEEPS = (
    _says("status", "waiting"),
    _says("wait.kind", "timer"),
    {"Variable": UNTIL, "IsPresent": True},
)


def _input(parameter: Any) -> dict[str, str]:
    path = f"$.given.{parameter.name}"
    text = path if parameters.native_type(parameter) == "string" else f"States.JsonToString({path})"
    return {"Name": f"{INPUT_VARIABLE}{parameter.name}", "Value.$": text}


def _size(asked: Resources) -> dict[str, str]:
    if asked == Resources():
        return {}
    machine = limits.machine(asked, LIMITS)
    assert machine is not None, "the limits are checked first"
    cpu, _, memory = machine.name.partition("/")
    return {"Cpu": cpu, "Memory": memory}


def _retry(
    errors: Sequence[str], attempts: int, seconds: float, backoff: float = 2
) -> dict[str, Any]:
    return {
        "ErrorEquals": [*errors],
        "IntervalSeconds": max(1, round(seconds)),
        "MaxAttempts": attempts,
        "BackoffRate": max(1.0, float(backoff)),
        "MaxDelaySeconds": max(_HOUR, round(seconds) + 1),
    }


def _retries(step: Step) -> list[dict[str, Any]]:
    if step.retry != "native" or not step.retries:
        return []
    return [_retry(("States.TaskFailed",), step.retries, step.retry_delay, step.backoff)]


def _task_definition(plan: Plan, wiring: ContainerSpec) -> dict[str, Any]:
    """Return how the container of every step starts; a state adds the arguments of its step."""
    chosen = plan.options
    roles = {
        "taskRoleArn": chosen.get(profile.TASK_ROLE),
        "executionRoleArn": chosen.get(profile.EXECUTION_ROLE),
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": wiring.image,
        "essential": True,
        "entryPoint": [*wiring.command, *wiring.leading],
        "environment": [
            {"name": name, "value": value}
            for name, value in variables.environment(wiring.environment).items()
        ],
    }
    if profile.LOGS in chosen:
        container["logConfiguration"] = {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": chosen[profile.LOGS],
                "awslogs-stream-prefix": slug(plan.flow, fallback="flow"),
            },
        }
    return {
        "family": family(plan.flow),
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": _CPU,
        "memory": _MEMORY,
        **{name: role for name, role in roles.items() if role},
        "containerDefinitions": [container],
        "tags": [{"key": "kitaru:flow", "value": slug(plan.flow, fallback="flow")}],
    }
