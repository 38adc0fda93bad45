"""`kitaru graph`: draw a flow's steps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import completion, options
from kitaru.cli.output import Output
from kitaru.errors import UsageError
from kitaru.ops.flow_ref import locate

if TYPE_CHECKING:
    from kitaru.ops.graph import Form
    from kitaru.wire.plan import Granularity

FORMATS = ("mermaid", "dot", "svg", "html", "graphml", "json")
_ENDINGS: dict[str, Form] = {
    ".mmd": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".html": "html",
    ".graphml": "graphml",
    ".json": "json",
}


@click.command(short_help="Draw a flow's steps.", epilog=options.FLOW_HELP)
@options.flow
@click.option(
    "--target", "-t", metavar="NAME", shell_complete=completion.targets,
    help="Target to cut for. Default: the finest cut that any target supports.",
)  # fmt: skip
@options.granularity
@click.option(
    "--format", "form", type=click.Choice(FORMATS),
    help="Output format. Default: from the extension of FILE, then mermaid.",
)  # fmt: skip
@click.option(
    "--output", "-o", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Output file. Default: stdout.",
)  # fmt: skip
@click.option(
    "--execution", metavar="EXEC", shell_complete=completion.executions,
    help="Show the durations of this execution, and mark the critical path.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def graph(
    output: Output, flow: str, target: str | None, granularity: Granularity, form: Form | None,
    file: Path | None, execution: str | None, store: str | None,
) -> None:  # fmt: skip
    """Draw a flow's steps, waits, conditions, regions and cuts.

    `html` is one page with the graph next to the source; it needs no network. With --json, the
    document contains nodes and edges. `graphml` and `json` are the checkpoint graph of networkx,
    with data edges, resources and the critical path.
    """
    from kitaru.ops.graph import graph as draw

    form = form or _format_of(file)
    drawn = draw(locate(flow), target, granularity)
    if execution:
        from kitaru.client import KitaruClient

        drawn = drawn.timed(KitaruClient(store).executions.get(execution))
    if file or not output.as_json:
        text = drawn.text(form)
        if file:
            file.write_text(text, encoding="utf-8")
        else:
            output.say(text.removesuffix("\n"), block=True)
    if output.as_json and form == "json" and not file:
        output.document(json.loads(drawn.text("json")))
    elif output.as_json:
        output.document({**asdict(drawn.graph), "file": str(file) if file else None})
    elif file:
        output.note(f"wrote {file}")


def _format_of(file: Path | None) -> Form:
    if file is None:
        return "mermaid"
    if found := _ENDINGS.get(file.suffix.lower()):
        return found
    raise UsageError(
        f"The format cannot be determined from the name {file}.",
        help=f"Pass --format {'|'.join(FORMATS)}, or a FILE ending in {', '.join(_ENDINGS)}.",
    )
