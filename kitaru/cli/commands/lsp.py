"""The command `kitaru lsp`."""

from __future__ import annotations

import click

from kitaru.cli import completion, options
from kitaru.cli.output import Output
from kitaru.errors import UsageError


@click.command(short_help="Run the language server for editors.")
@click.option(
    "--target", "-t", metavar="NAME", default="", shell_complete=completion.targets,
    help="Cut flows for this target. Default: as finely as any target can.",
)  # fmt: skip
@options.pass_output
def lsp(output: Output, target: str) -> None:
    """Run the language server for editors, over stdin and stdout.

    Shows findings while you type, the steps and regions of flows, and quick fixes. Needs the extra
    `lsp`.
    """
    try:
        from kitaru.cli.language_server import make_server
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The language server needs the package {error.name}.",
            help="Install Kitaru with the extra lsp.",
        ) from error
    if target:
        from kitaru_targets import registry

        registry.get(target)
    make_server(target).start_io()
