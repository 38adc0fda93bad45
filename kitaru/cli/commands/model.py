"""`kitaru model`: aliases, the models they stand for, and what model calls cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from kitaru import config
from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted
from kitaru.cli.render.comparison import dollars

if TYPE_CHECKING:
    from kitaru.ops.model_usage import By, Usage


@click.group(cls=Group, short_help="Show model aliases, and what models cost.")
def model() -> None:
    """Show model aliases and costs. Aliases are set in [tool.kitaru.models] and KITARU_MODELS."""


@model.command("list")
@options.stack
@options.as_json
@options.pass_output
def list_models(output: Output) -> None:
    """List the aliases in force, the model of each, and the secret that contains its key.

    If an alias is not configured, the built-in offline model answers. It says so in its answer.
    """
    from kitaru.runtime.llm.models import resolve

    default = str(config.setting("default_model").value)
    found = [resolve(alias) for alias in sorted({*config.models(), default})]
    items = [
        {
            "alias": one.name,
            "model": one.model,
            "api_base": one.api_base,
            "secret": one.secret,
            "default": one.name == default,
        }
        for one in found
    ]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    output.table([_row(item) for item in items])


@model.command()
@click.option(
    "--since",
    required=True,
    callback=options.age,
    metavar="AGE",
    help="Include calls made within this time, such as 7d, 12h or 30m.",
)
@click.option("--flow", metavar="NAME", help="Only executions of this flow.")
@click.option(
    "--by",
    type=click.Choice(["model", "flow", "execution", "day"]),
    default="model",
    show_default=True,
    help="Group by this.",
)
@options.store
@options.as_json
@options.pass_output
def usage(
    output: Output, since: timedelta, flow: str | None, by: By, store: str | None
) -> None:  # fmt: skip
    """Sum model calls, tokens, latency and cost, including failed attempts.

    Results that were reused from the cache or by a replay are not counted: those calls were not
    made again.
    """
    from kitaru.ops.model_usage import model_usage

    groups, total = model_usage(reader_of(store).store, since, flow=flow, by=by)
    if output.as_json:
        items = [asdict(one) for one in groups]
        output.document({"items": items, "count": len(items), "total": asdict(total)})
        return
    rows = [_usage_row(one) for one in (groups if len(groups) == 1 else [*groups, total])]
    output.table(rows, [by, "calls", "tokens in", "tokens out", "latency", "cost"])
    if total.unpriced:
        output.note(f"{counted(total.unpriced, 'call')} without a known price")


def _usage_row(one: Usage) -> tuple[str, ...]:
    tokens = f"{one.prompt_tokens:,}", f"{one.completion_tokens:,}"
    return one.name, f"{one.calls:,}", *tokens, f"{one.latency_s:.2f} s", dollars(one.cost)


@model.command()
@click.argument("alias", metavar="ALIAS")
@click.option(
    "--model", "name", required=True, metavar="MODEL", help="Model, such as openai/gpt-4o."
)
@click.option("--secret", metavar="NAME", help="Secret that contains the API key.")
@options.as_json
@options.pass_output
def register(output: Output, alias: str, name: str, secret: str | None) -> None:
    """Set the model of an alias, in the configuration of this user.

    The project's [tool.kitaru.models] in pyproject.toml overrides it.
    """
    path = config.register_model(alias, name, secret)
    if output.as_json:
        item = {"alias": alias, "model": name, "secret": secret, "file": str(path)}
        output.document(item)
        return
    output.say(f"{alias} stands for {name}  (in {path})")


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    key = f"key {item['secret']}" if item["secret"] else ""
    return item["alias"], item["model"], item["api_base"], key, "default" * item["default"]
