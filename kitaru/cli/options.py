"""Options and arguments that several commands share."""

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
from kitaru.errors import UsageError
from kitaru.wire.periods import parse_period

F = TypeVar("F", bound=Callable[..., Any])

FLOW_HELP = "FLOW is path.py, path.py:flow_name or module:flow_name."

pass_output = click.make_pass_decorator(Output)


def as_json(function: F) -> F:
    """Add `--json`. The flag is read before parsing, so usage errors obey it too."""
    return click.option(
        "--json", is_flag=True, expose_value=False, help="Print one JSON document to stdout."
    )(function)


def store(function: F) -> F:
    """Add `--store URL`, and `--stack NAME`, whose settings may name the store."""
    return click.option(
        "--store",
        metavar="URL",
        help="Store URL, such as sqlite:PATH. Default: KITARU_STORE, then the project's settings, "
        "then sqlite:.kitaru/kitaru.db.",
    )(stack(function))


def stack(function: F) -> F:
    """Add `--stack NAME`, for every setting that the command reads."""
    return click.option(
        "--stack", metavar="NAME", expose_value=False, shell_complete=completion.stacks,
        callback=lambda ctx, parameter, name: config.command_stack(name),
        help="Use the settings of this stack. `kitaru stack list` lists the stacks.",
    )(function)  # fmt: skip


def processes(function: F) -> F:
    """Add `--processes N`, the bound on processes for executions of the target `local`."""
    return click.option(
        "--processes", type=click.IntRange(min=0), default=2, show_default=True, metavar="N",
        help="Maximum number of executions of the target `local` at a time.",
    )(function)  # fmt: skip


def limit(function: F) -> F:
    """Add `--limit N`, the number of entries to show; None if the option is not passed."""
    return click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N entries."
    )(function)


def page(function: F) -> F:
    """Add `--limit N` and `--skip N`, the part of a long list to show."""
    skip = click.option(
        "--skip",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Skip the first N entries.",
    )
    return limit(skip(function))


def age(context: click.Context, option: click.Parameter, value: str) -> timedelta:
    """Parse a duration such as `90d`, `12h` or `30m`. A click callback."""
    try:
        return parse_period(value)
    except UsageError as error:
        raise click.BadParameter(error.message.rstrip(".")) from None


def where(function: F) -> F:
    """Add `--where FIELD=VALUE`, the filter of lists and of commands for many executions."""
    return click.option(
        "--where", "wheres", multiple=True, metavar="FIELD=VALUE",
        help="Only executions with this flow, status, older_than, newer_than, input.NAME, "
        "tag.NAME, tag, target, version or text. Repeatable; all must hold.",
    )(function)  # fmt: skip


def key(function: F) -> F:
    """Add `--key`: what identifies the start of an execution."""
    return click.option(
        "--key", metavar="KEY",
        help="What identifies the start, such as order-7: the same key of a flow is the same "
        "execution.",
    )(function)  # fmt: skip


def tags(function: F) -> F:
    """Add `--tag NAME=VALUE`, a tag of the execution that is started."""
    return click.option(
        "--tag", "tags", multiple=True, metavar="NAME=VALUE",
        help="Tag of the execution, by which lists find it. Repeatable.",
    )(function)  # fmt: skip


def optional_age(
    context: click.Context, option: click.Parameter, value: str | None
) -> timedelta | None:
    """Parse a duration that may be missing. A click callback."""
    return None if value is None else age(context, option, value)


def flow(function: F) -> F:
    """Add the argument `FLOW`."""
    return click.argument("flow", metavar="FLOW", shell_complete=completion.flows)(function)


def execution(function: F) -> F:
    """Add the argument `EXEC`: an id, a prefix that only one id has, or `latest`.

    The command gets the whole id as `execution`. The id is looked up in the command's `--store`.
    """
    return _executions("execution")(function)


def optional_execution(function: F) -> F:
    """Add the optional argument `EXEC`."""
    return _executions("execution", required=False)(function)


def two_executions(function: F) -> F:
    """Add the arguments `EXEC_A` and `EXEC_B`, which accept what `EXEC` accepts."""
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
        help="One flow input: JSON if it parses, otherwise a string. Repeatable.",
    )  # fmt: skip
    many = click.option(
        "--inputs", "inputs_from", metavar="FILE|JSON",
        help="All flow inputs: a JSON file or a JSON object. --input overrides it.",
    )  # fmt: skip
    return one(many(function))


def findings_format(function: F) -> F:
    """Add `--format`, the output format of findings."""
    return click.option(
        "--format", "form", type=click.Choice(["text", "json", "sarif", "github"]), default="text",
        show_default=True, help="Output format of findings: for people, or for a code host.",
    )(function)  # fmt: skip


def target(function: F) -> F:
    """Add `--target NAME`, required unless the stack or another setting names one."""
    return click.option(
        "--target", "-t", "target", callback=_target, metavar="NAME",
        shell_complete=completion.targets,
        help="Target to compile for; see `kitaru target list`. Default: the stack's target.",
    )(function)  # fmt: skip


def _target(ctx: click.Context, parameter: click.Parameter, given: str | None) -> str:
    found = config.setting("target", argument=given).value
    if found is None:
        raise click.MissingParameter(ctx=ctx, param=parameter)
    return str(found)


def place(function: F) -> F:
    """Add `--target`, `--output` and `--image`, for a residual pipeline."""
    target = click.option(
        "--target", "-t", "target", metavar="NAME", shell_complete=completion.targets,
        help="Write the pipeline of the remaining steps instead. Reads only the store.",
    )  # fmt: skip
    image = click.option(
        "--image", metavar="REF", help="With --target: container image of every step."
    )
    return target(directory(image(function)))


def exclusive(function: F) -> F:
    """Add `--exclusive`, an option of Kitaru 0.21. A tag now always points at one version."""
    return click.option(
        "--exclusive", is_flag=True, expose_value=False, hidden=True,
        help="No effect: a tag always points at one version.",
    )(function)  # fmt: skip


def sets(function: F) -> F:
    """Add `--set NAME=TEXT`, for the target's service."""
    return click.option(
        "--set", "sets", multiple=True, metavar="NAME=TEXT",
        help="Option of the target's service, such as project=ID for vertex. Repeatable.",
    )(function)  # fmt: skip


def directory(function: F, default: str = "build") -> F:
    """Add `--output DIR`."""
    return click.option(
        "--output", "-o", "directory", type=click.Path(path_type=Path), default=Path(default),
        show_default=True, metavar="DIR", help="Write to DIR/<flow>/<target>/.",
    )(function)  # fmt: skip


def rehearsal_directory(function: F) -> F:
    """Add `--output DIR`. Its default keeps a dry run from overwriting a build to be deployed."""
    return directory(function, ".kitaru/dry-run")


def granularity(function: F) -> F:
    """Add `--granularity`."""
    return click.option(
        "--granularity", type=click.Choice(["checkpoint", "fused", "single"]),
        default="checkpoint", show_default=True, help="Size of a step.",
    )(function)  # fmt: skip


def compilation(function: F) -> F:
    """Add the options of a compilation: `--granularity`, `--image`, `--delivery`, `--strict`."""
    options = [
        granularity,
        click.option("--image", metavar="REF", help="Container image of every step."),
        click.option(
            "--delivery", type=click.Choice(["store", "image", "inline"]), default="store",
            show_default=True, help="How the code reaches the container.",
        ),
        click.option("--strict", is_flag=True, help="Treat warnings and notes as errors."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function
