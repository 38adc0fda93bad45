"""Compare two builds, or a build with the build that an execution ran."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.config import setting
from kitaru.errors import StateError, UsageError
from kitaru.ops.flow_ref import locate

if TYPE_CHECKING:
    from kitaru_targets.base import Target
    from kitaru_targets.build import Build
    from kitaru_targets.compare import Difference, Side

    from kitaru.stores.base import Store
    from kitaru.wire.plan import Granularity


def diff_builds(a: str, b: str) -> Difference:
    """Compare build `b` with build `a`; comments, layout and docstrings do not count.

    Args:
        a, b: build directories. One of them may be a flow, which is compiled with the options of
            the other.

    Raises:
        UsageError: neither is a build directory, or a build is incomplete.
        SourceError: the source of the flow has errors.

    Example:
        diff_builds("build/review/vertex", "review.py").changes
    """
    from kitaru_targets.compare import compare

    with tempfile.TemporaryDirectory() as folder:
        return compare(*_sides(a, b, Path(folder) / "build"))


def diff_deployed(store: Store, exec_id: str, name: str) -> Difference:
    """Compare a build or a flow with the build that an execution ran.

    Args:
        name: a build directory, or a flow, which is compiled with the options of that build.

    Raises:
        NotFound: the execution does not exist.
        StateError: the store does not contain the build of the execution.
        SourceError: the source of the flow has errors.
    """
    from kitaru_targets.compare import compare

    with tempfile.TemporaryDirectory() as folder:
        return compare(*_with_deployed(name, exec_id, store, Path(folder) / "build"))


def _sides(a: str, b: str, folder: Path) -> tuple[Side, Side]:
    from kitaru_targets.compare import of_build

    written = [_read(name) if _is_build(name) else None for name in (a, b)]
    match written:
        case [None, None]:
            raise UsageError(
                f"Neither {a} nor {b} is a build directory.",
                help="A build is written by: kitaru compile FLOW --target TARGET",
            )
        case [old, None] if old:
            return of_build(old), of_build(_compiled(b, old, folder))
        case [None, new] if new:
            return of_build(_compiled(a, new, folder)), of_build(new)
    assert written[0] and written[1]
    return of_build(written[0]), of_build(written[1])


def _with_deployed(name: str, exec_id: str, store: Store, folder: Path) -> tuple[Side, Side]:
    """Return the execution's build, and the build or the compiled flow called `name`."""
    from kitaru_targets import registry
    from kitaru_targets.compare import of_build, of_execution

    plan, old = of_execution(store, exec_id)
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
    """The options with which the other side was compiled."""

    target: Target
    granularity: Granularity
    image: str | None = None
    store: str = ""
    delivery: str = "store"
    base_image: str = ""


def _compiled(flow: str, like: Build, folder: Path) -> Build:
    """Compile a flow with the options of `like`."""
    lock = like.lock
    how = _Like(
        like.target, like.plan.granularity, lock.image, lock.store, like.delivery, lock.base_image
    )
    return _compile(flow, how, folder)


def _compile(flow: str, like: _Like, folder: Path) -> Build:
    """Compile a flow for the same target, granularity and (unless configured) image."""
    from kitaru_compiler import compile_flow
    from kitaru_targets import build

    from kitaru.ops.findings import named_from_here

    location = locate(flow)
    with named_from_here(location):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity=like.granularity,
            profile=like.target.profile,
            module=location.module,
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
        base_image=setting("base_image", start=location.path.parent).value or like.base_image,
    )
