"""`kitaru executions diff` and `kitaru executions lineage`."""

from __future__ import annotations

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.output import JSON_ITEMS, LINES, Output, part, show_more
from kitaru.wire.names import some as some_of

EPILOG = """Exit codes: 0 same inputs, invocations and results; 1 they differ; 2 usage error.
Durations, tokens and notes of `kitaru.log` are not compared."""


@click.command(short_help="Compare two executions.", epilog=EPILOG)
@options.two_executions
@click.option("--full", is_flag=True, help="Show every line of every difference.")
@options.page
@options.store
@options.as_json
@options.pass_output
def diff(
    output: Output, a: str, b: str, full: bool, limit: int | None, skip: int, store: str | None
) -> int:
    """Compare two executions: inputs, invocations, results, tokens and time."""
    from kitaru.cli.render.comparison import show

    most = limit or (JSON_ITEMS if output.as_json else LINES)
    found = reader_of(store).executions.diff(a, b, limit=most, skip=skip)
    if output.as_json:
        output.document(found.to_dict())
    else:
        show(found, output, full=full)
    return 0 if found.same else 1


@click.command(short_help="Show which earlier results each invocation used.")
@options.execution
@click.argument("invocation", metavar="[INVOCATION]", required=False)
@options.page
@options.store
@options.as_json
@options.pass_output
def lineage(
    output: Output, execution: str, invocation: str | None, limit: int | None, skip: int,
    store: str | None,
) -> None:  # fmt: skip
    """Show which earlier results each invocation used, whole or inside an argument.

    With INVOCATION, show only the ancestors and descendants of its result. Results are matched by
    content: an argument that equals a result counts as that result.
    """
    from kitaru.ops.lineage import lineage as made_from

    kept = made_from(reader_of(store).store, execution, invocation)
    some = part(kept.items(), output, limit, skip)
    if output.as_json:
        items = [{"id": id, "parents": list(parents)} for id, parents in some.items]
        output.document({"exec_id": execution, **some.document(items)})
        return
    rows = [(id, f"from {some_of(parents)}" if parents else "") for id, parents in some.items]
    output.table(rows, empty="no invocations")
    show_more(output, some)
