"""The command `kitaru serve`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.output import Output
from kitaru.cli.service import TOKEN, needs_server
from kitaru.config import setting
from kitaru.errors import UsageError

SECRET = "KITARU_OIDC_SECRET"


@click.command(short_help="Serve the executions of a store over HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8088, show_default=True,
    help="Port to listen on. 0 is any free port.",
)  # fmt: skip
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="NAME",
    help="Name of the service that clients use. Repeatable. Default: the names of loopback.",
)  # fmt: skip
@click.option(
    "--accounts", is_flag=True,
    help="Require a token of `kitaru tokens create`. KITARU_TOKEN requires one, too.",
)  # fmt: skip
@click.option(
    "--grace", type=click.IntRange(min=0), default=30, show_default=True, metavar="SECONDS",
    help="Time that requests get to end when the service stops.",
)  # fmt: skip
@click.option(
    "--demo", "is_demo", is_flag=True,
    help="Serve a new store with sample executions, which is removed at the end.",
)  # fmt: skip
@click.option(
    "--dispatch/--no-dispatch", default=True, show_default=True,
    help="Continue answered and invoked executions, as `kitaru dispatcher run` does.",
)  # fmt: skip
@click.option(
    "--signed-urls/--no-signed-urls", default=True, show_default=True,
    help="Let browsers read files of values from the bucket, by signed URLs. Without: from the "
    "service, such as for a bucket that only the service can reach.",
)  # fmt: skip
@options.processes
@options.store
@options.as_json
@options.pass_output
def serve(
    output: Output, host: str, port: int, allow_hosts: tuple[str, ...], accounts: bool,
    grace: int, is_demo: bool, dispatch: bool, signed_urls: bool, processes: int,
    store: str | None,
) -> None:  # fmt: skip
    """Serve the executions of a store, as pages and over HTTP, until Ctrl-C or SIGTERM.

    The service has no database: everything is in the store. With --accounts, each request needs a
    token of `kitaru tokens create`. If KITARU_TOKEN is set, that token is one of the role admin.
    Accounts are required unless the service listens on this machine only. Needs the extra `server`.
    """
    with needs_server():
        from kitaru.server.serving import Service, serve
    service = Service(
        host=host,
        port=port,
        allow_hosts=allow_hosts,
        token=os.environ.get(TOKEN) or None,
        accounts=accounts,
        oidc=_provider(),
        oidc_roles=setting("oidc_roles").value,
        grace=grace,
        dispatch=dispatch,
        processes=processes,
        signed_urls=signed_urls,
    )
    service.check()
    if is_demo and store is not None:
        raise UsageError("--demo serves a store of its own.", help="Omit --store or --demo.")

    def show(url: str) -> None:
        if output.as_json:
            output.document({"url": url, "store": opened.url})
        else:
            output.say(f"serving {opened.url} at {url}")
            output.note(f"the API is described at {url}/openapi.json; Ctrl-C stops the service")

    with ExitStack() as stack:
        if is_demo:
            from kitaru.ops.demo import demo

            folder = stack.enter_context(TemporaryDirectory(prefix="kitaru-demo-"))
            output.note("deploying sample flows, which takes some seconds")
            opened = demo(Path(folder))
        else:
            opened = client_of(store).store
        service.check_tokens(opened)
        serve(opened, service, show)


def _provider() -> dict[str, str]:
    """Return the settings of the provider, with the client's secret from the environment."""
    found: dict[str, str] = dict(setting("oidc").value)
    if found and (secret := os.environ.get(SECRET)):
        found["client_secret"] = secret
    return found
