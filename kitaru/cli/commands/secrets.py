"""`kitaru secrets`: store, list and delete secrets. No command shows a value."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from kitaru.cli import options
from kitaru.cli.groups import Group
from kitaru.cli.output import Output
from kitaru.errors import NotFound, UsageError
from kitaru.ops.secrets import place_of, places
from kitaru.runtime import secrets as keeper


@click.group(cls=Group, short_help="Store secrets for this user, and show where each is found.")
def secrets() -> None:
    """Store and list secrets, which flows read with kitaru.secret(NAME). Values are never shown."""


_name = click.argument("name", metavar="NAME")


@secrets.command("set", context_settings={"ignore_unknown_options": True})
@_name
@click.option("--private", is_flag=True, help="No effect: only this user can read a secret.")
@click.argument("values", metavar="[--KEY=VALUE]...", nargs=-1, type=click.UNPROCESSED)
@options.as_json
@options.pass_output
def set_secret(output: Output, name: str, private: bool, values: tuple[str, ...]) -> None:
    """Read a secret from stdin, and store it in a file that only this user can read.

    On a terminal, the value is prompted for and not echoed. NAME is also the name of an environment
    variable. If the variable is set, it overrides the stored secret.

    With --KEY=VALUE, each KEY is stored as a separate secret. A single one is also stored as NAME.
    A value on the command line stays in the shell's history.
    """
    if values:
        _store(output, name, dict(_pairs(values)))
        return
    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise UsageError("The value is empty.", help=f"printf %s VALUE | kitaru secrets set {name}")
    keeper.keep(name, value)
    _say(output, {"name": name, "kept": True}, f"{name} is stored for this user")


def _store(output: Output, name: str, values: dict[str, str]) -> None:
    kept = dict(values)
    if len(values) == 1:
        kept[name] = next(iter(values.values()))
    for key, value in kept.items():
        keeper.keep(key, value)
    names = sorted(kept)
    _say(output, {"name": name, "kept": True, "names": names}, f"{', '.join(names)}: stored")


def _pairs(values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    pending = iter(values)
    for word in pending:
        key, equals, value = word.partition("=")
        value = value if equals else next(pending, "")
        if not key.startswith("--") or not key[2:] or not value:
            # The word is not shown: it may be the secret.
            raise UsageError(
                "A value of the secret does not have the form --KEY=VALUE.",
                help="kitaru secrets set NAME    # reads one value from stdin",
            )
        yield key[2:], value


@secrets.command()
@_name
@options.as_json
@options.pass_output
def show(output: Output, name: str) -> None:
    """Show where a secret is found, never its value."""
    found = place_of(name)
    _say(output, {"name": name, "found": found}, f"{name}  {found}")


@secrets.command("list")
@options.as_json
@options.pass_output
def list_secrets(output: Output) -> None:
    """List stored and referenced secrets, and where each is found. Values are never shown."""
    items = [{"name": name, "found": where} for name, where in places().items()]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    rows = [(item["name"], item["found"]) for item in items]
    output.table(rows, empty="no secrets")


@secrets.command()
@_name
@options.as_json
@options.pass_output
def delete(output: Output, name: str) -> None:
    """Delete a secret that is stored for this user."""
    if not keeper.forget(name):
        raise NotFound(f"No secret {name} is stored for this user.", help="kitaru secrets list")
    _say(output, {"name": name, "deleted": True}, f"{name} is deleted")


def _say(output: Output, document: dict[str, object], text: str) -> None:
    if output.as_json:
        output.document(document)
    else:
        output.say(text)
