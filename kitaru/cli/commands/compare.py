"""Decides what `kitaru executions diff` and `kitaru executions lineage` do."""

from __future__ import annotations

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.output import Output
from kitaru.errors import NotFound

EPILOG = """Exit codes: 0 the same inputs, invocations and results; 1 they differ; 2 usage. What
they took, and what `kitaru.log` noted, does not count."""


@click.command(short_help="Say how two executions differ.", epilog=EPILOG)
@click.argument("a", metavar="EXEC_A")
@click.argument("b", metavar="EXEC_B")
@options.store
@options.as_json
@options.pass_output
def diff(output: Output, a: str, b: str, store: str | None) -> int:
    """Show two executions side by side: inputs, which invocations ran, results, tokens, time."""
    from kitaru.cli.comparisons import show

    found = client_of(store).executions.diff(a, b)
    if output.as_json:
        output.document(found.to_dict())
    else:
        show(found, output)
    return 0 if found.same else 1


@click.command(short_help="Say which invocation made what from what.")
@options.execution
@click.argument("invocation", metavar="[INVOCATION]", required=False)
@options.store
@options.as_json
@options.pass_output
def lineage(output: Output, execution: str, invocation: str | None, store: str | None) -> None:
    """Show which invocations' results each one was given, whole or inside an argument.

    With INVOCATION only what its result was made from, and what was made from it. Results are found
    by content: an argument that equals a result counts as that result.
    """
    from kitaru.runtime.recording.lineage import related

    made = client_of(store).executions.lineage(execution)
    if invocation is not None and invocation not in made:
        raise NotFound(
            f'The execution {execution} has no invocation "{invocation}".',
            help=f"It has: {', '.join(made) or 'none'}",
        )
    kept = made if invocation is None else related(made, invocation)
    if output.as_json:
        items = [{"id": id, "parents": list(parents)} for id, parents in kept.items()]
        output.document({"exec_id": execution, "items": items, "count": len(items)})
        return
    width = max((len(id) for id in kept), default=0)
    for id, parents in kept.items():
        output.say(f"{id:<{width}}  {'from ' + ', '.join(parents) if parents else ''}".rstrip())
