"""Decides what `kitaru graph` says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.locate import locate
from kitaru.cli.output import Output
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru_compiler import Compilation
    from kitaru_targets.base import Target
    from kitaru_targets.graph import Graph

    from kitaru.wire.plan import Granularity

FORMATS = ("mermaid", "dot", "svg", "html")
_ENDINGS = {".mmd": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg", ".html": "html"}


@click.command(short_help="Draw a flow's steps.", epilog=options.FLOW_HELP)
@options.flow
@click.option(
    "--target", "-t", metavar="NAME",
    help="Cut for this orchestrator; by default as finely as any of them can.",
)  # fmt: skip
@options.granularity
@click.option(
    "--format", "form", type=click.Choice(FORMATS),
    help="What to write. Default: by the ending of FILE, else mermaid.",
)  # fmt: skip
@click.option(
    "--output", "-o", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where to write it; by default to stdout.",
)  # fmt: skip
@options.as_json
@options.pass_output
def graph(
    output: Output, flow: str, target: str | None, granularity: Granularity, form: str | None,
    file: Path | None,
) -> None:  # fmt: skip
    """Draw a flow's steps, waits, tests and regions, and where the cuts are.

    `html` is one page with the graph beside the source, and needs no network. With --json the
    document holds nodes and edges.
    """
    from kitaru_targets.graph import graph_of

    form = form or _format_of(file)
    chosen, compilation = _compiled(flow, target, granularity)
    made = graph_of(compilation.plan, compilation.steps_py, compilation.sources)
    if file or not output.as_json:
        text = _text(form, made, compilation, chosen.title if chosen else "")
        if file:
            file.write_text(text, encoding="utf-8")
        else:
            output.say(text.removesuffix("\n"))
    if output.as_json:
        output.document({**asdict(made), "file": str(file) if file else None})
    elif file:
        output.note(f"wrote {file}")


def _format_of(file: Path | None) -> str:
    if file is None:
        return "mermaid"
    if found := _ENDINGS.get(file.suffix.lower()):
        return found
    raise UsageError(
        f"The name {file} does not say which format is meant.",
        help=f"--format {'|'.join(FORMATS)}, or a FILE ending in {', '.join(_ENDINGS)}",
    )


def _compiled(
    flow: str, name: str | None, granularity: Granularity
) -> tuple[Target | None, Compilation]:
    from kitaru_compiler import compile_flow
    from kitaru_targets import registry

    from kitaru.cli.findings import named_from_here

    location = locate(flow)
    target = registry.get(name) if name else None
    profile = {"profile": target.profile} if target else {}
    with named_from_here(location.path):
        return target, compile_flow(
            location.path, location.flow, granularity=granularity, **profile
        )


def _text(form: str, graph: Graph, compilation: Compilation, title: str) -> str:
    from kitaru_targets.graph import dot, mermaid, page, svg

    match form:
        case "mermaid":
            return mermaid(graph)
        case "dot":
            return dot(graph)
        case "svg":
            return svg(graph)
    return page(graph, compilation.sources, title)
