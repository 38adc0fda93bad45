"""Decides what `kitaru diff` compares, and what it ends with."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.locate import locate
from kitaru.cli.output import Output
from kitaru.config import setting
from kitaru.errors import StateError, UsageError

if TYPE_CHECKING:
    from kitaru_targets.base import Target
    from kitaru_targets.build import Build
    from kitaru_targets.compare import Side

    from kitaru.wire.plan import Granularity

EPILOG = """A and B are build directories, such as build/review/vertex; one of them may be a FLOW:
path.py, path.py:flow_name or module:flow_name. With --deployed there is one of them, and A is what
the execution ran. Exit codes: 0 they do the same, 1 they differ (or the flow's source has errors),
2 usage, or there is nothing to compare with, 3 the store."""


@click.command(short_help="Say how two builds differ, and why.", epilog=EPILOG)
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--deployed", metavar="EXEC",
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
    from kitaru_targets.compare import compare

    from kitaru.cli.differences import show, to_json

    if (b is None) == (deployed is None):
        raise UsageError(
            "Two sides are compared: A and B, or one of them and --deployed EXEC.",
            help="kitaru diff build/<flow>/<target> FLOW",
        )
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "build"
        sides = _sides(a, b, scratch) if b else _with_deployed(a, deployed or "", store, scratch)
        found = compare(*sides)
    if output.as_json:
        output.document(to_json(found))
    else:
        show(found, output)
    return 1 if found.changes else 0


def _sides(a: str, b: str, folder: Path) -> tuple[Side, Side]:
    from kitaru_targets.compare import of_build

    written = [_read(name) if _is_build(name) else None for name in (a, b)]
    match written:
        case [None, None]:
            raise UsageError(
                f"Neither {a} nor {b} is a build directory.",
                help="kitaru compile FLOW --target T -o DIR writes DIR/<flow>/T/",
            )
        case [old, None] if old:
            return of_build(old), of_build(_compiled(b, old, folder))
        case [None, new] if new:
            return of_build(_compiled(a, new, folder)), of_build(new)
    assert written[0] and written[1]
    return of_build(written[0]), of_build(written[1])


def _with_deployed(name: str, exec_id: str, url: str | None, folder: Path) -> tuple[Side, Side]:
    """Return what an execution ran, and the build or the flow called `name` as it was compiled."""
    from kitaru_targets import registry
    from kitaru_targets.compare import of_build, of_execution

    from kitaru.stores import open_store

    store = open_store(str(setting("store", argument=url).value))
    try:
        plan, old = of_execution(store, exec_id)
    finally:
        store.close()
    if _is_build(name):
        return old, of_build(_read(name))
    like = _Like(registry.get(old.target), plan.granularity)
    return old, of_build(_compile(name, like, folder))


def _is_build(name: str) -> bool:
    path = Path(name)
    if path.is_dir() and not (path / "lock.json").is_file():
        found = sorted(p.parent for p in path.glob("*/*/lock.json")) or sorted(
            p.parent for p in path.glob("*/lock.json")
        )
        shown = "\n".join(map(str, found)) or "kitaru compile FLOW --target T"
        raise UsageError(f"{name} is a directory, but no build.", help=shown)
    return path.is_dir()


def _read(name: str) -> Build:
    from kitaru_targets import build

    try:
        return build.read(Path(name))
    except StateError as error:
        raise UsageError(error.message, help=error.help) from error


@dataclass(frozen=True, slots=True)
class _Like:
    """How the other side was compiled."""

    target: Target
    granularity: Granularity
    image: str | None = None
    store: str = ""
    delivery: str = "store"


def _compiled(flow: str, like: Build, folder: Path) -> Build:
    """Compile a flow as `like` was."""
    lock = json.loads((like.directory / "lock.json").read_text("utf-8"))
    how = _Like(like.target, lock["granularity"], lock["image"], lock["store"], like.delivery)
    return _compile(flow, how, folder)


def _compile(flow: str, like: _Like, folder: Path) -> Build:
    """Compile a flow for the same target, as finely, with the same image unless configured."""
    from kitaru_compiler import compile_flow
    from kitaru_targets import build

    from kitaru.cli.findings import named_from_here

    location = locate(flow)
    with named_from_here(location.path):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity=like.granularity,
            profile=like.target.profile,
        )
    named = compilation.plan.image or None
    found = setting("image", decorator=named, start=location.path.parent)
    image = found.value or like.image
    return build.write(
        compilation,
        like.target,
        folder,
        image=image,
        store=like.store,
        delivery=like.delivery,
    )
