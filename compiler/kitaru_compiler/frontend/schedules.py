"""The schedule that `@flow` declares, checked before anything is deployed."""

from __future__ import annotations

from kitaru.errors import UsageError
from kitaru.wire.cron import check_cron, check_timezone
from kitaru.wire.plan import PlannedSchedule
from kitaru_compiler.frontend.flows import FlowDefinition, literal_of, parameters

_OPTIONS = ("schedule", "timezone", "overlap", "catchup", "schedule_by")


def schedule_of(flow: FlowDefinition) -> PlannedSchedule | None:
    """Return the schedule of a flow, None if it declares none.

    Raises UsageError with the place if an option is not a literal or not valid, or if an input has
    no default.
    """
    written = {option.arg: option.value for option in flow.options if option.arg in _OPTIONS}
    given: dict[str, str] = {}
    for name, value in written.items():
        is_literal, text = literal_of(value)
        where = f"{flow.source.file}:{value.lineno}"
        if is_literal and text is None:
            continue
        if not isinstance(text, str):
            raise UsageError(
                f"{where}: the {name} of @flow is not written out as a string.",
                help="Compiling runs no code: write it out, or use kitaru schedule create.",
            )
        try:
            given[str(name)] = _checked(str(name), text)
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", help=error.help) from None
    place = f"{flow.source.file}:{flow.definition.lineno}"
    if "schedule" not in given:
        if given:
            raise UsageError(
                f"{place}: the {next(iter(given))} of @flow has no schedule.",
                help='Add one, such as schedule="0 2 * * *".',
            )
        return None
    needed = [one.name for one in parameters(flow.definition) if one.required]
    if needed:
        raise UsageError(
            f"{place}: {flow.name} has a schedule, but its input {needed[0]} has no default.",
            help="Add a default, or remove the schedule and set the input: "
            f"kitaru schedule create {flow.name} --cron {given['schedule']!r} "
            f"-i {needed[0]}=…",
        )
    return PlannedSchedule(
        given["schedule"],
        given.get("timezone", "UTC"),
        given.get("overlap", "skip"),  # type: ignore[arg-type]
        given.get("catchup", "last"),  # type: ignore[arg-type]
        given.get("schedule_by", "dispatcher"),  # type: ignore[arg-type]
    )


def _checked(name: str, text: str) -> str:
    if name == "schedule":
        return check_cron(text)
    if name == "timezone":
        return check_timezone(text)
    # The types of the decorator name the policies, and have been checked.
    return text
