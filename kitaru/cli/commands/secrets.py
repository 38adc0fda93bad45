"""Decides what `kitaru secrets` does: keep, list and delete secrets, and never show one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import click

from kitaru import config
from kitaru.cli import options
from kitaru.cli.output import Output, table
from kitaru.errors import NotFound, UsageError
from kitaru.runtime import secrets as keeper


@click.group(short_help="Keep secrets for this user, and say where each is found.")
def secrets() -> None:
    """Values that flows read with kitaru.secret(NAME), and that nothing ever shows."""


_name = click.argument("name", metavar="NAME")


@secrets.command("set")
@_name
@options.as_json
@options.pass_output
def set_secret(output: Output, name: str) -> None:
    """Keep a secret, read from stdin, in a file that only this user may read.

    On a terminal it asks, without showing what is typed. NAME is that of the environment variable
    that would hold it; the variable, where it is set, comes first.
    """
    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise UsageError("The value is empty.", help=f"printf %s VALUE | kitaru secrets set {name}")
    keeper.keep(name, value)
    _say(output, {"name": name, "kept": True}, f"{name} is kept for this user")


@secrets.command("list")
@options.as_json
@options.pass_output
def list_secrets(output: Output) -> None:
    """List the secrets that are kept or referred to, and where each is found; never a value."""
    items = [{"name": name, "found": where} for name, where in sorted(_places())]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    rows = [(item["name"], item["found"]) for item in items]
    for line in table(rows) if rows else ["no secrets"]:
        output.say(line)


@secrets.command()
@_name
@options.as_json
@options.pass_output
def delete(output: Output, name: str) -> None:
    """Delete a secret that is kept for this user."""
    if not keeper.forget(name):
        raise NotFound(f"There is no secret {name} kept for this user.", help="kitaru secrets list")
    _say(output, {"name": name, "deleted": True}, f"{name} is deleted")


def _places() -> Iterator[tuple[str, str]]:
    references = config.secrets()
    for name in {*references, *keeper.kept()}:
        if os.environ.get(name):
            yield name, "the environment"
        elif name in references:
            yield name, keeper.check_reference(name, references[name])
        else:
            yield name, "kept for this user"


def _say(output: Output, document: dict[str, object], text: str) -> None:
    if output.as_json:
        output.document(document)
    else:
        output.say(text)
