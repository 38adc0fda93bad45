"""`kitaru stack`: show the settings in force and where each comes from, and manage stacks."""

from __future__ import annotations

from typing import Any

import click

from kitaru import config
from kitaru.cli import options
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, label
from kitaru.cli.values import pairs


@click.group(cls=Group, short_help="Show the settings in force, and manage stacks.")
def stack() -> None:
    """Show settings and manage stacks. A stack is a named group of settings in pyproject.toml."""


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
    output.table(rows, empty="no stacks; define one in [tool.kitaru.stacks.NAME]")


@stack.command()
@options.store
@options.as_json
@options.pass_output
def show(output: Output, store: str | None) -> None:
    """Show every setting, its value, and where the value comes from."""
    used = config.stack()
    given = {"store": store}
    found = [config.setting(name, argument=given.get(name)) for name in config.names()]
    if output.as_json:
        settings = [{"name": s.name, "value": s.value, "origin": s.origin} for s in found]
        output.document({"stack": used.value, "settings": settings})
        return
    output.table([(s.name, _shown(s.value), f"({s.origin})") for s in found])


@stack.command()
@click.argument("name", metavar="NAME")
@options.as_json
@options.pass_output
def use(output: Output, name: str) -> None:
    """Select a stack for this project on this machine.

    The choice is stored in .kitaru/stack next to pyproject.toml. --stack and KITARU_STACK override
    it.
    """
    path = config.use_stack(name)
    if output.as_json:
        output.document({"stack": name, "file": str(path)})
        return
    output.say(f"{label(name, 'green')} is in force here  (from {path})")


@stack.command()
@options.as_json
@options.pass_output
def current(output: Output) -> None:
    """Show the stack in force, and where it was selected."""
    used = config.stack()
    if output.as_json:
        output.document({"name": used.value, "origin": used.origin})
        return
    output.say(f"{used.value}  ({used.origin})" if used.value else "no stack is in force")


@stack.command()
@click.argument("name", metavar="NAME")
@click.option("--type", "--target", "-t", "target", metavar="T", help="Target, such as vertex.")
@click.option("--store", "--artifact-store", "store", metavar="URL", help="Store URL.")
@click.option("--image", metavar="REF", help="Container image of every step.")
@options.sets
@options.as_json
@options.pass_output
def create(
    output: Output, name: str, target: str | None, store: str | None, image: str | None,
    sets: tuple[str, ...],
) -> None:  # fmt: skip
    """Create a stack in the configuration of this user.

    --set NAME=TEXT sets an option of the target's service, as in `kitaru invoke`.
    """
    if target not in (None, "local"):
        from kitaru_targets import registry

        registry.get(str(target))
    given = {"target": target, "store": store, "image": image, "submit": pairs(sets, "--set")}
    settings = {key: value for key, value in given.items() if value and value != "local"}
    path = config.create_stack(name, settings)
    _done(output, {"name": name, "settings": settings, "file": str(path)}, f"{name}: created")


@stack.command()
@click.argument("name", metavar="NAME")
@options.as_json
@options.pass_output
def delete(output: Output, name: str) -> None:
    """Delete a stack from the configuration of this user."""
    path = config.delete_stack(name)
    _done(output, {"name": name, "deleted": True, "file": str(path)}, f"{name}: deleted")


def _done(output: Output, document: dict[str, Any], text: str) -> None:
    if output.as_json:
        output.document(document)
        return
    output.say(f"{text}  (in {document['file']})")


def _row(item: dict[str, Any], origin: str) -> tuple[str, ...]:
    mark = label("✓", "green") if item["in_force"] else ""
    said = ", ".join(f"{name} {_shown(value)}" for name, value in item["settings"].items())
    return mark, item["name"], said, f"({origin})" if item["in_force"] else ""


def _inner(value: Any) -> str:
    """Return a value in a table; of tables, such as overrides, only their number."""
    tables = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    return counted(len(value), "table") if tables else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_inner(one)}" for name, one in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
