"""`kitaru tokens`: create, list and revoke tokens of the service."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of, reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output
from kitaru.ops.access import ROLES

if TYPE_CHECKING:
    from kitaru.ops.tokens import Token


@click.group(cls=Group, short_help="Create, list and revoke tokens of `kitaru serve`.")
def tokens() -> None:
    """Create, list and revoke tokens for the HTTP API, `KitaruClient` and MCP."""


@tokens.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--role", type=click.Choice(ROLES), required=True,
    help="viewer reads; approver also answers waits; operator also starts, cancels and tags; "
    "admin also manages tokens and reads the audit log.",
)  # fmt: skip
@click.option(
    "--flow", "flows", multiple=True, metavar="FLOW",
    help="Name of a flow, or a pattern such as billing-*. Repeatable. Default: all flows.",
)  # fmt: skip
@click.option(
    "--expires", callback=options.optional_age, metavar="AGE",
    help="How long it is valid, such as 90d or 12h. Default: until it is revoked.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def create(
    output: Output, name: str, role: str, flows: tuple[str, ...], expires: timedelta | None,
    store: str | None,
) -> None:  # fmt: skip
    """Create a token, and print it. It is shown only once: the store contains its digest.

    NAME is what answers and the audit log name, such as `ci`.
    """
    made = client_of(store).tokens.create(name, role, flows=flows, expires=expires)
    if output.as_json:
        output.document({"secret": made.secret, "token": made.token.to_dict()})
        return
    output.say(made.secret)
    output.note(f"{made.token.prefix} is {name}: {_what(made.token)}. It is not shown again.")
    output.note(f"Use it: export KITARU_TOKEN={made.token.prefix}_…")


@tokens.command("list")
@click.option("--sessions", is_flag=True, help="Also list the sessions of people who logged in.")
@options.store
@options.as_json
@options.pass_output
def list_tokens(output: Output, sessions: bool, store: str | None) -> None:
    """List the tokens with their roles. No token is shown, only how it begins."""
    found = reader_of(store).tokens.list(sessions=sessions)
    if output.as_json:
        output.document({"items": [one.to_dict() for one in found], "count": len(found)})
        return
    heads = ["prefix", "name", "role", "state", "created", "by", "expires"]
    output.table([_row(one) for one in found], heads, empty="no tokens")


@tokens.command()
@click.argument("named", metavar="TOKEN")
@options.store
@options.as_json
@options.pass_output
def revoke(output: Output, named: str, store: str | None) -> None:
    """Revoke a token, and the sessions that began with it. Services refuse it after 5 seconds.

    TOKEN is its prefix or its name.
    """
    ended = client_of(store).tokens.revoke(named)
    if output.as_json:
        output.document(ended.to_dict())
    else:
        output.say(f"{ended.prefix} ({ended.name}) is revoked")


def _row(token: Token) -> tuple[str, ...]:
    created, expires = token.created_at[:10], token.expires_at[:16].replace("T", " ")
    by = token.created_by
    return token.prefix, token.name, _what(token), token.state, created, by, expires


def _what(token: Token) -> str:
    return "; ".join(map(str, token.grants))
