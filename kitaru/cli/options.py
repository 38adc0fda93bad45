"""Decides how the options that several commands share are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kitaru import config
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
        "--stack", metavar="NAME", expose_value=False,
        callback=lambda ctx, parameter, name: config.command_stack(name),
        help="The stack whose settings count; `kitaru stack list` names them.",
    )(function)  # fmt: skip


def flow(function: F) -> F:
    """Add the argument `FLOW`."""
    return click.argument("flow", metavar="FLOW")(function)


def execution(function: F) -> F:
    """Add the argument `EXEC`."""
    return click.argument("execution", metavar="EXEC")(function)


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
        "--target", "-t", "target", metavar="NAME",
        help="Write the pipeline of what is left, to be deployed: only the store is read.",
    )  # fmt: skip
    image = click.option("--image", metavar="REF", help="With --target: the image of every step.")
    return target(directory(image(function)))


def sets(function: F) -> F:
    """Add `--set NAME=TEXT`, for the target's service."""
    return click.option(
        "--set", "sets", multiple=True, metavar="NAME=TEXT",
        help="An option of the target's service, such as project=… for vertex. Repeatable.",
    )(function)  # fmt: skip


def directory(function: F) -> F:
    """Add `--output DIR`."""
    return click.option(
        "--output", "-o", "directory", type=click.Path(path_type=Path), default=Path("build"),
        show_default=True, metavar="DIR", help="Written to DIR/<flow>/<target>/.",
    )(function)  # fmt: skip


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
