"""Decides what `kitaru diff` compares, and what it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import completion, options
from kitaru.cli.output import Output
from kitaru.config import setting
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru_targets.compare import Difference

EPILOG = """A and B are build directories, such as build/review/vertex; one of them may be a FLOW:
path.py, path.py:flow_name or module:flow_name. With --deployed there is one of them, and A is what
the execution ran. Exit codes: 0 they do the same, 1 they differ (or the flow's source has errors),
2 usage, or there is nothing to compare with, 3 the store."""


@click.command(short_help="Say how two builds differ, and why.", epilog=EPILOG)
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--deployed", metavar="EXEC", shell_complete=completion.executions,
    help="Compare with what this execution ran: a run on an orchestrator, or a dry run.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def diff(output: Output, a: str, b: str | None, deployed: str | None, store: str | None) -> int:
    """Say how build B differs from build A: steps added, removed and changed, and why.

    A flow is compiled as the other side was, without writing anything. Comments, layout and
    docstrings do not count.
    """
    from kitaru.cli.render.build_diff import show, to_json
    from kitaru.ops.build_diff import diff_builds

    if (b is None) == (deployed is None):
        raise UsageError(
            "Two sides are compared: A and B, or one of them and --deployed EXEC.",
            help="kitaru diff build/<flow>/<target> FLOW",
        )
    found = diff_builds(a, b) if b else _with_deployed(a, deployed or "", store)
    if output.as_json:
        output.document(to_json(found))
    else:
        show(found, output)
    return 1 if found.changes else 0


def _with_deployed(name: str, exec_id: str, url: str | None) -> Difference:
    from kitaru.ops.build_diff import diff_deployed
    from kitaru.runtime.executions.invocation_ref import execution_id
    from kitaru.stores import open_store

    store = open_store(str(setting("store", argument=url).value))
    try:
        return diff_deployed(store, execution_id(store, exec_id), name)
    finally:
        store.close()
