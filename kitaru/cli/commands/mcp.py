"""The command `kitaru mcp`."""

from __future__ import annotations

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.errors import UsageError


@click.command(short_help="Serve a store to agents over MCP.")
@click.option("--read-only", "is_read_only", is_flag=True, help="Offer no tool that changes data.")
@options.store
def mcp(is_read_only: bool, store: str | None) -> None:
    """Serve the executions of a store to an agent, over stdin and stdout (MCP).

    Register it in an agent's settings as the command `kitaru mcp --read-only`. `kitaru serve`
    offers the same tools over HTTP at `/mcp`. Needs the extras `server` and `mcp`.
    """
    try:
        from kitaru.server.mcp import make_mcp
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The server for agents needs the package {error.name}.",
            help="Install Kitaru with the extras server and mcp.",
        ) from error
    from kitaru.wire.actors import acting_as

    with acting_as("mcp"):
        make_mcp(client_of(store), is_read_only=is_read_only, is_local=True).run("stdio")
