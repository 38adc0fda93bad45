"""`kitaru target`: list the targets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.groups import Group
from kitaru.cli.output import Output

if TYPE_CHECKING:
    from kitaru_targets.base import Target
    from kitaru_targets.plugins import Plugin


@click.group(cls=Group, short_help="List the targets and what each can do.")
def target() -> None:
    """List the orchestrators that Kitaru compiles for."""


@target.command("list")
@options.as_json
@options.pass_output
def list_targets(output: Output) -> None:
    """List the targets and what each can do.

    Targets of other distributions are listed by name. They are imported only when you use them.
    """
    from kitaru_targets import plugins, registry

    items = [_item(registry.get(name)) for name in registry.names()]
    others = plugins.installed()
    if output.as_json:
        brought = [_brought(one) for one in others]
        output.document({"items": items, "count": len(items), "installed": brought})
        return
    heads = ("target", "orchestrator", "document", "native", "in the step", "step start")
    output.table([*map(_row, items)], heads)
    for one in others:
        output.say(f"{one.name}  installed with {one.distribution} {one.version}; not looked into")


def _brought(plugin: Plugin) -> dict[str, str]:
    named = {"distribution": plugin.distribution, "version": plugin.version}
    return {"name": plugin.name, **named}


def _item(target: Target) -> dict[str, Any]:
    from kitaru_targets.matrix import capabilities

    return {
        "name": target.name,
        "title": target.title,
        "document": target.document,
        "capabilities": [asdict(capability) for capability in capabilities(target)],
        "start_seconds": list(target.profile.start_seconds),
    }


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    low, high = item["start_seconds"]
    native, other = (
        ", ".join(_shown(c) for c in item["capabilities"] if c["native"] is wanted)
        for wanted in (True, False)
    )
    start = f"{low}–{high} s"
    return item["name"], item["title"], item["document"], native, other, start


def _shown(capability: dict[str, Any]) -> str:
    needs = capability["needs"]
    return f"{capability['name']} (with {needs})" if needs else str(capability["name"])
