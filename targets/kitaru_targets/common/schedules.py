"""Schedules that the service of a target keeps: what `schedule_by="target"` of `@flow` becomes.

A service has fewer policies than a dispatcher, and other rules for days and for changes of the
clock. A schedule that it cannot follow as `@flow` describes it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.plan import Plan, PlannedSchedule
from kitaru_targets.base import ContainerSpec, Schedules, Target
from kitaru_targets.common import json_format, parameters
from kitaru_targets.common.node_names import slug

_VALUE = r"(?:[0-9]{1,2}|[A-Z]{3})"
_PART = rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/[0-9]{{1,2}})?"
_FIELD = re.compile(rf"{_PART}(?:,{_PART})*")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST_ID = 40
# A tick that starts later than this was missed, as for a dispatcher.
LATE_SECONDS = 300
# The file of a schedule of EventBridge Scheduler, and the most that it retries a call of an action.
AWS_FILE = "schedule.json"
_DAY_SECONDS, _RETRIES = 86_400, 185
AWS = Schedules("EventBridge Scheduler", AWS_FILE, ("allow",), ("none", "all"))


def native(plan: Plan, wiring: ContainerSpec) -> PlannedSchedule | None:
    """Return the schedule that the document contains; a residual pipeline contains none."""
    found = plan.schedule
    return found if found and found.by == "target" and not wiring.execution else None


def schedule_id(plan: Plan) -> str:
    """Return the id of the schedule that a flow declares, which is its name."""
    return slug(plan.flow, fallback="flow", longest=_LONGEST_ID)


def check(plan: Plan, target: Target, wiring: ContainerSpec) -> None:
    """Raise UsageError if the target's service cannot follow the schedule of a plan."""
    found = native(plan, wiring)
    if found is None:
        return
    can, place = target.schedules, f"{plan.file}:{plan.line}: {plan.flow}"
    if can is None:
        raise UsageError(
            f"{place} has schedule_by='target', but the target {target.name} starts no runs by "
            "schedule, or may start some of them twice.",
            help="Remove schedule_by: a dispatcher starts the flow.",
        )
    try:
        service_cron(found.cron)
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", help=error.help) from None
    waits = any(block.kind == "wait" for block in plan.blocks)
    overlap = ("allow",) if waits and can.ends_at_waits else can.overlap
    because = "for flows with waits, at which a run ends, " if waits and can.ends_at_waits else ""
    for name, given, allowed in (
        ("overlap", found.overlap, overlap),
        ("catchup", found.catchup, can.catchup),
    ):
        if given not in allowed:
            words = " or ".join(f'{name}="{one}"' for one in allowed)
            raise UsageError(
                f'{place} has {name}="{given}", which {can.name} cannot do.',
                help=f"With schedule_by='target', {because}{target.title} has {words}. Or remove "
                "schedule_by: a dispatcher can do all of them.",
            )
    declared = parameters.declared(plan, wiring.store)
    if needed := [one.name for one in declared if one.default is None]:
        raise UsageError(
            f"{place}: a run by schedule is given no {needed[0]}.",
            help="Give every input a default, and compile with --store.",
        )


def service_cron(cron: str) -> str:
    """Return a checked cron expression that all services read alike; raise UsageError otherwise.

    >>> service_cron("0 7 * * MON-FRI")
    '0 7 * * MON-FRI'
    """
    *_, day, _, weekday = fields = cron.split()
    if not all(map(_FIELD.fullmatch, fields)) or re.search(r"(?<![0-9/])7", weekday):
        raise UsageError(
            f"Services of targets do not read the cron expression {cron!r}.",
            help="They have no L, W and #, and Sunday is 0 or SUN. A dispatcher reads them.",
        )
    if "*" not in (day, weekday):
        raise UsageError(
            f"The cron expression {cron!r} means other days to each service.",
            help="Restrict the day of the month or the day of the week. A dispatcher does both.",
        )
    return cron


def aws_schedule(
    plan: Plan, planned: PlannedSchedule, role: str, target: str, given: Mapping[str, Any]
) -> str:
    """Return the schedule of Amazon EventBridge Scheduler that calls a target, given as an ARN.

    EventBridge Scheduler puts the instant into `given`, the input of the target, so that the
    execution has one id, however often the target is called.
    """
    seconds = LATE_SECONDS if planned.catchup == "none" else _DAY_SECONDS
    made = {
        "Name": schedule_id(plan),
        "ScheduleExpression": aws_cron(planned.cron),
        "ScheduleExpressionTimezone": planned.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": {
            "Arn": target,
            "RoleArn": role,
            "Input": json.dumps(given),
            "RetryPolicy": {"MaximumEventAgeInSeconds": seconds, "MaximumRetryAttempts": _RETRIES},
        },
    }
    return f"{json_format.dump(made)}\n"


def aws_execution(plan: Plan) -> str:
    """Return the name of the execution of a tick: EventBridge Scheduler replaces the instant."""
    return f"schedule:{schedule_id(plan)}:<aws.scheduler.scheduled-time>"


def aws_options(plan: Plan, target: str, *names: str) -> list[str]:
    """Return the options that a schedule needs. Raise UsageError with all that are missing."""
    if missing := [name for name in names if name not in plan.options]:
        raise UsageError(
            f"{plan.file}:{plan.line}: {plan.flow} has schedule_by='target', and pyproject.toml "
            f"has no {', '.join(missing)} in [tool.kitaru.{target}].",
            help="Set what is missing, or remove schedule_by: a dispatcher starts the flow.",
        )
    return [plan.options[name] for name in names]


def aws_cron(cron: str) -> str:
    """Return a cron expression as Amazon EventBridge Scheduler reads it.

    >>> aws_cron("0 7 * * 1-5")
    'cron(0 7 ? * MON,TUE,WED,THU,FRI *)'
    """
    minute, hour, day, month, weekday = service_cron(cron).split()
    days = "?" if weekday == "*" else ",".join(_DAYS[one] for one in sorted(_weekdays(weekday)))
    return f"cron({minute} {hour} {'?' if days != '?' else day} {month} {days} *)"


def _weekdays(field: str) -> Iterator[int]:
    """Yield the days of a field, as numbers from Sunday, which is 0."""
    for number in range(7):
        if any(number in _range(part) for part in field.split(",")):
            yield number


def _range(part: str) -> range:
    span, _, step = part.partition("/")
    first, _, last = ("0-6" if span == "*" else span).partition("-")
    begin = _number(first)
    # A step after a single value runs to the end of the week.
    end = _number(last) if last else 6 if step else begin
    return range(begin, end + 1, int(step or 1))


def _number(day: str) -> int:
    return _DAYS.index(day) if day in _DAYS else int(day)
