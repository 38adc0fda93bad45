"""Decides what `kitaru model` says: which model each alias stands for, and whether it has a key."""

from __future__ import annotations

from typing import Any

import click

from kitaru import config
from kitaru.cli import options
from kitaru.cli.output import Output, table


@click.group(short_help="Say which model each alias stands for.")
def model() -> None:
    """Aliases of models: [tool.kitaru.models] in pyproject.toml, KITARU_MODELS."""


@model.command("list")
@options.stack
@options.as_json
@options.pass_output
def list_models(output: Output) -> None:
    """List the aliases in force, the models they stand for, and where each key is looked for.

    An alias that is not configured is answered by the built-in offline model, which says so.
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
    for line in table([_row(item) for item in items]):
        output.say(line)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    key = f"key {item['secret']}" if item["secret"] else ""
    return item["alias"], item["model"], item["api_base"], key, "default" * item["default"]
