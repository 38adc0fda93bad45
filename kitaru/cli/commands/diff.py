"""`kitaru diff`: compare two builds, or a build with what an execution ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import completion, options
from kitaru.cli.output import Output
from kitaru.config import setting
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru_targets.compare import Difference

EPILOG = """A and B are build directories, such as build/review/vertex. One of them may be a FLOW:
path.py, path.py:flow_name or module:flow_name. With --deployed, pass one side; it is compared with
what the execution ran. Exit codes: 0 no difference, 1 the builds differ or the flow's source has
errors, 2 usage error or nothing to compare with, 3 store error."""


@click.command(short_help="Compare two builds, and explain each change.", epilog=EPILOG)
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--deployed", metavar="EXEC", shell_complete=completion.executions,
    help="Compare with what this execution ran, on an orchestrator or as a dry run.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def diff(output: Output, a: str, b: str | None, deployed: str | None, store: str | None) -> int:
    """Compare build B with build A: steps added, removed and changed, and why.

    A flow is compiled with the options of the other side, without writing anything. Comments,
    layout and docstrings are ignored.
    """
    from kitaru.cli.render.build_diff import show, to_json
    from kitaru.ops.build_diff import diff_builds

    if (b is None) == (deployed is None):
        raise UsageError(
            "A comparison needs two sides: A and B, or A and --deployed EXEC.",
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
