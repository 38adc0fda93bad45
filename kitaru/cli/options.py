"""Decides how the options that several commands share are written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from kitaru import config
from kitaru.cli import completion
from kitaru.cli.output import Output

F = TypeVar("F", bound=Callable[..., Any])

FLOW_HELP = "FLOW is path.py, path.py:flow_name or module:flow_name."

pass_output = click.make_pass_decorator(Output)


def as_json(function: F) -> F:
    """Add `--json`; the flag itself is read before parsing, so that usage errors obey it too."""
    return click.option(
        "--json", is_flag=True, expose_value=False, help="One JSON document on stdout."
    )(function)


def store(function: F) -> F:
    """Add `--store URL`, and `--stack NAME`, which says where else."""
    return click.option(
        "--store",
        metavar="URL",
        help="Where executions are kept, such as sqlite:PATH. Default: KITARU_STORE, the project's "
        "settings, then sqlite:.kitaru/kitaru.db.",
    )(stack(function))


def stack(function: F) -> F:
    """Add `--stack NAME`, for every setting that the command asks for."""
    return click.option(
        "--stack", metavar="NAME", expose_value=False, shell_complete=completion.stacks,
        callback=lambda ctx, parameter, name: config.command_stack(name),
        help="The stack whose settings count; `kitaru stack list` names them.",
    )(function)  # fmt: skip


def limit(function: F) -> F:
    """Add `--limit N`, how much of a long list is shown; None where it is not given."""
    return click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="Show at most so many."
    )(function)


def page(function: F) -> F:
    """Add `--limit N` and `--skip N`, which part of a long list is shown."""
    skip = click.option(
        "--skip", type=click.IntRange(min=0), default=0, metavar="N", help="Leave the first N out."
    )
    return limit(skip(function))


_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def age(context: click.Context, option: click.Parameter, value: str) -> timedelta:
    """Return the length of time that people write as `90d`, `12h` or `30m`: a callback."""
    number, unit = value[:-1], value[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        raise click.BadParameter(f"{value!r} is no number of days, hours or minutes, such as 90d")
    return timedelta(**{_UNITS[unit]: int(number)})


def flow(function: F) -> F:
    """Add the argument `FLOW`."""
    return click.argument("flow", metavar="FLOW", shell_complete=completion.flows)(function)


def execution(function: F) -> F:
    """Add the argument `EXEC`: an id, a prefix that only one id has, or `latest`.

    The command gets the whole id as `execution`; its `--store` is looked into for that.
    """
    return _executions("execution")(function)


def optional_execution(function: F) -> F:
    """Add the argument `EXEC`, which may be left out."""
    return _executions("execution", required=False)(function)


def two_executions(function: F) -> F:
    """Add the arguments `EXEC_A` and `EXEC_B`, which mean what `EXEC` does."""
    return _executions("a", "b", metavar="EXEC_{}")(function)


def _executions(*names: str, metavar: str = "EXEC", required: bool = True) -> Callable[[F], F]:
    def add(function: F) -> F:
        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs[name] for name in names if kwargs[name] is not None}
            return function(*args, **kwargs | _whole_ids(given, kwargs["store"]))

        for name in reversed(names):
            named = click.argument(
                name,
                metavar=metavar.format(name.upper()) if required else f"[{metavar}]",
                required=required,
                shell_complete=completion.executions,
            )(named)
        return cast(F, named)

    return add


def _whole_ids(given: dict[str, str], store: str | None) -> dict[str, str]:
    from kitaru.cli.clients import reader_of
    from kitaru.runtime.executions.invocation_ref import execution_id

    if not given:
        return {}
    opened = reader_of(store).store
    return {name: execution_id(opened, text) for name, text in given.items()}


def inputs(function: F) -> F:
    """Add `--input` and `--inputs`."""
    one = click.option(
        "--input", "-i", "pairs", multiple=True, metavar="NAME=VALUE",
        help="One flow input: JSON when it parses, else text. Repeatable.",
    )  # fmt: skip
    many = click.option(
        "--inputs", "inputs_from", metavar="FILE|JSON",
        help="All flow inputs: a JSON file, or a JSON object. --input wins over it.",
    )  # fmt: skip
    return one(many(function))


def findings_format(function: F) -> F:
    """Add `--format`, how findings are written."""
    return click.option(
        "--format", "form", type=click.Choice(["text", "json", "sarif", "github"]), default="text",
        show_default=True, help="How findings are written: for people, or for a code host.",
    )(function)  # fmt: skip


def target(function: F) -> F:
    """Add `--target NAME`, required unless the stack or another setting names one."""
    return click.option(
        "--target", "-t", "target", callback=_target, metavar="NAME",
        shell_complete=completion.targets,
        help="The orchestrator; `kitaru target list` names them. Default: the stack's.",
    )(function)  # fmt: skip


def _target(ctx: click.Context, parameter: click.Parameter, given: str | None) -> str:
    found = config.setting("target", argument=given).value
    if found is None:
        raise click.MissingParameter(ctx=ctx, param=parameter)
    return str(found)


def place(function: F) -> F:
    """Add `--target`, `--output` and `--image`, for the pipeline that goes on with an execution."""
    target = click.option(
        "--target", "-t", "target", metavar="NAME", shell_complete=completion.targets,
        help="Write the pipeline of what is left, to be deployed: only the store is read.",
    )  # fmt: skip
    image = click.option("--image", metavar="REF", help="With --target: the image of every step.")
    return target(directory(image(function)))


def exclusive(function: F) -> F:
    """Add `--exclusive`, which Kitaru 0.21 had: here a tag never points at two versions."""
    return click.option(
        "--exclusive", is_flag=True, expose_value=False, hidden=True,
        help="Point the tag at this version alone, as every tag does.",
    )(function)  # fmt: skip


def sets(function: F) -> F:
    """Add `--set NAME=TEXT`, for the target's service."""
    return click.option(
        "--set", "sets", multiple=True, metavar="NAME=TEXT",
        help="An option of the target's service, such as project=… for vertex. Repeatable.",
    )(function)  # fmt: skip


def directory(function: F, default: str = "build") -> F:
    """Add `--output DIR`."""
    return click.option(
        "--output", "-o", "directory", type=click.Path(path_type=Path), default=Path(default),
        show_default=True, metavar="DIR", help="Written to DIR/<flow>/<target>/.",
    )(function)  # fmt: skip


def rehearsal_directory(function: F) -> F:
    """Add `--output DIR`; without it a rehearsal leaves the build alone that is to be deployed."""
    return directory(function, ".kitaru/dry-run")


def granularity(function: F) -> F:
    """Add `--granularity`."""
    return click.option(
        "--granularity", type=click.Choice(["checkpoint", "fused", "single"]),
        default="checkpoint", show_default=True, help="How much of the flow becomes one step.",
    )(function)  # fmt: skip


def compilation(function: F) -> F:
    """Add what shapes a compilation: `--granularity`, `--image`, `--delivery`, `--strict`."""
    options = [
        granularity,
        click.option("--image", metavar="REF", help="The container image of every step."),
        click.option(
            "--delivery", type=click.Choice(["store", "image", "inline"]), default="store",
            show_default=True, help="How the code gets into the container.",
        ),
        click.option("--strict", is_flag=True, help="Warnings and notes are errors."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function
