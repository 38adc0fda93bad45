"""Decides what `kitaru target` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.output import Output, table

if TYPE_CHECKING:
    from kitaru_targets.base import Target


@click.group(short_help="List the targets and what each can do.")
def target() -> None:
    """The orchestrators Kitaru compiles for."""


@target.command("list")
@options.as_json
@options.pass_output
def list_targets(output: Output) -> None:
    """List the targets and what each can do."""
    from kitaru_targets import registry

    items = [_item(registry.get(name)) for name in registry.names()]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    header = ("NAME", "ORCHESTRATOR", "DOCUMENT", "BRANCHES", "RETRIES", "STEP START")
    for line in table([header, *map(_row, items)]):
        output.say(line)


def _item(target: Target) -> dict[str, Any]:
    profile = target.profile
    return {
        "name": target.name,
        "title": target.title,
        "document": target.document,
        "branches": profile.branches,
        "retry": profile.retry,
        "start_seconds": list(profile.start_seconds),
    }


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    low, high = item["start_seconds"]
    branches = "native" if item["branches"] else "guards"
    retries = "native" if item["retry"] == "native" else "in the step"
    return item["name"], item["title"], item["document"], branches, retries, f"{low}–{high} s"
