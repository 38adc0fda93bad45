"""Decides what `kitaru diff` compares, and what it ends with."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.locate import locate
from kitaru.cli.output import Output
from kitaru.config import setting
from kitaru.errors import StateError, UsageError

if TYPE_CHECKING:
    from kitaru_targets.build import Build

EPILOG = """A and B are build directories, such as build/review/vertex; one of them may be a FLOW:
path.py, path.py:flow_name or module:flow_name. Exit codes: 0 they do the same, 1 they differ (or
the flow's source has errors), 2 usage."""


@click.command(short_help="Say how two builds differ, and why.", epilog=EPILOG)
@click.argument("a")
@click.argument("b")
@options.as_json
@options.pass_output
def diff(output: Output, a: str, b: str) -> int:
    """Say how build B differs from build A: steps added, removed and changed, and why.

    A flow is compiled as the build on the other side was, without writing anything. Comments,
    layout and docstrings do not count.
    """
    from kitaru_targets.compare import compare

    from kitaru.cli.differences import show, to_json

    with tempfile.TemporaryDirectory() as folder:
        found = compare(*_builds(a, b, Path(folder) / "build"))
    if output.as_json:
        output.document(to_json(found))
    else:
        show(found, output)
    return 1 if found.changes else 0


def _builds(a: str, b: str, folder: Path) -> tuple[Build, Build]:
    written = [_read(name) if _is_build(name) else None for name in (a, b)]
    match written:
        case [None, None]:
            raise UsageError(
                f"neither {a} nor {b} is a build directory",
                help="kitaru compile FLOW --target T -o DIR writes DIR/<flow>/T/",
            )
        case [old, None] if old:
            return old, _compiled(b, old, folder)
        case [None, new] if new:
            return _compiled(a, new, folder), new
    assert written[0] and written[1]
    return written[0], written[1]


def _is_build(name: str) -> bool:
    path = Path(name)
    if path.is_dir() and not (path / "lock.json").is_file():
        found = sorted(p.parent for p in path.glob("*/*/lock.json")) or sorted(
            p.parent for p in path.glob("*/lock.json")
        )
        shown = "\n".join(map(str, found)) or "kitaru compile FLOW --target T"
        raise UsageError(f"{name} is a directory, but no build", help=shown)
    return path.is_dir()


def _read(name: str) -> Build:
    from kitaru_targets import build

    try:
        return build.read(Path(name))
    except StateError as error:
        raise UsageError(error.message, help=error.help) from error


def _compiled(flow: str, like: Build, folder: Path) -> Build:
    """Compile a flow as `like` was: for its target, as finely, with its image unless configured."""
    from kitaru_compiler import compile_flow
    from kitaru_targets import build

    from kitaru.cli.findings import named_from_here

    location = locate(flow)
    lock = json.loads((like.directory / "lock.json").read_text("utf-8"))
    image = setting("image", start=location.path.parent).value or lock["image"]
    with named_from_here(location.path):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity=lock["granularity"],
            profile=like.target.profile,
        )
    return build.write(
        compilation,
        like.target,
        folder,
        image=image,
        store=lock["store"],
        delivery=like.delivery,
    )
