"""Decides what `kitaru stack` says: which settings are in force, and where each comes from."""

from __future__ import annotations

from typing import Any

import click

from kitaru import config
from kitaru.cli import options
from kitaru.cli.output import Output, label, table


@click.group(short_help="Say which settings are in force, and which stack names them.")
def stack() -> None:
    """Stacks: settings under one name, [tool.kitaru.stacks.NAME] in pyproject.toml."""


@stack.command("list")
@options.stack
@options.as_json
@options.pass_output
def list_stacks(output: Output) -> None:
    """List the stacks, and which one is in force."""
    used = config.stack()
    items = [
        {"name": name, "in_force": name == used.value, "settings": settings}
        for name, settings in sorted(config.stacks().items())
    ]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    rows = [_row(item, used.origin) for item in items]
    for line in table(rows) if rows else ["no stacks: [tool.kitaru.stacks.NAME] makes one"]:
        output.say(line)


@stack.command()
@options.store
@options.as_json
@options.pass_output
def show(output: Output, store: str | None) -> None:
    """Show every setting that is in force, and where its value comes from."""
    used = config.stack()
    given = {"store": store}
    found = [config.setting(name, argument=given.get(name)) for name in config.names()]
    if output.as_json:
        settings = [{"name": s.name, "value": s.value, "origin": s.origin} for s in found]
        output.document({"stack": used.value, "settings": settings})
        return
    for line in table([(s.name, _shown(s.value), f"({s.origin})") for s in found]):
        output.say(line)


@stack.command()
@click.argument("name", metavar="NAME")
@options.as_json
@options.pass_output
def use(output: Output, name: str) -> None:
    """Let a stack be the one in force in this project, for you.

    It is noted in .kitaru/stack beside pyproject.toml; --stack and KITARU_STACK go before it.
    """
    path = config.use_stack(name)
    if output.as_json:
        output.document({"stack": name, "file": str(path)})
        return
    output.say(f"{label(name, 'green')} is in force here  (from {path})")


def _row(item: dict[str, Any], origin: str) -> tuple[str, ...]:
    mark = label("✓", "green") if item["in_force"] else ""
    said = ", ".join(f"{name} {_shown(value)}" for name, value in item["settings"].items())
    return mark, item["name"], said, f"({origin})" if item["in_force"] else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
