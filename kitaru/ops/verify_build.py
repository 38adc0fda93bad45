"""Verify a build: against the digests in its lock, and against the source of its flow.

`lock.json` is not signed. An attacker who replaces a file of a build can write the lock anew, and
then every digest matches. The source reveals it: the flow is compiled again, as `kitaru compile`
compiles it here, and each file of the build must be the compiled file, byte by byte.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from kitaru.errors import StateError
from kitaru.ops.compile import Request, compile_draft, request, write_draft
from kitaru.version import VERSION
from kitaru.wire.plan import LOCK, Granularity

if TYPE_CHECKING:
    from kitaru_targets.lock import Lock
    from kitaru_targets.verification import Verification

# Settings in a lock, with the options of `kitaru compile` that override the project's settings.
_SETTINGS = {
    "image": "pass --image, if it was compiled with one",
    "base_image": "set base_image in [tool.kitaru]",
    "store": "pass --store, if it was compiled with one",
}


def verify_build(
    directory: Path,
    *,
    source: str | None = None,
    image: str | None = None,
    store: str | None = None,
    with_sdk: bool = False,
) -> Verification:
    """Verify the build in `directory`; the result lists the differences in `problems`.

    Args:
        source: the flow, in the form that `locate` accepts; it is compiled again, and nothing of it
            is imported. Target, granularity and delivery are those of the build. All other options
            are the project's settings or the next two arguments, so a lock cannot name another
            image.
        image, store: those that were passed to `kitaru compile`.
        with_sdk: ask the vendor's SDK as well, if it is installed and nothing else is wrong.

    Raises:
        StateError: there is no build in the directory; or, with `source`, the build is of another
            version of Kitaru, or of the remaining steps of an execution.
        UsageError: the source does not exist, the target is unknown, or no SDK reads its documents.
        SourceError: the source has errors.
    """
    from kitaru_targets import build, lock, vendor
    from kitaru_targets.verification import verify

    found = verify(directory)
    if source is not None:
        locked = lock.read(directory)
        compiled = _compiled(_request(source, locked, image=image, store=store))
        differing = tuple(_differing(directory, locked, compiled, source))
        found = replace(found, problems=(*found.problems, *differing))
    if with_sdk and not found.problems:
        found = replace(found, sdk=vendor.opinion(build.read(directory)))
    return found


def _request(source: str, locked: Lock, *, image: str | None, store: str | None) -> Request:
    """Return the request whose build the directory must contain."""
    if locked.kitaru != VERSION:
        raise StateError(
            f"The build was compiled by Kitaru {locked.kitaru}, and this is {VERSION}.",
            help="Verify it with the Kitaru that compiled it, or compile it again.",
        )
    if locked.granularity not in get_args(Granularity):
        raise StateError(f"lock.json has an unknown granularity, {locked.granularity!r}.")
    asked = request(
        source,
        locked.target,
        "",
        granularity=locked.granularity,  # type: ignore[arg-type]  # it is one of them
        image=image,
        delivery=locked.delivery,
        store=store,
    )
    flow = asked.flow.flow or locked.flow
    return replace(asked, flow=replace(asked.flow, flow=flow))


def _compiled(asked: Request) -> Mapping[str, bytes]:
    """Return the files of a new compilation, which no cache of builds contains."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_draft(compile_draft(asked), replace(asked, directory=Path(folder)))
        return written.build.contents


def _differing(
    directory: Path, locked: Lock, compiled: Mapping[str, bytes], source: str
) -> Iterator[str]:
    """Yield each setting and each file of a build that the compilation does not have."""
    from kitaru_targets import lock

    new = lock.parse(compiled[LOCK], "the new compilation")
    for name, help in _SETTINGS.items():
        if (old := getattr(locked, name)) != (now := getattr(new, name)):
            yield f"{name} is {old or 'unset'}, and {now or 'unset'} by the settings here: {help}"
    for name in sorted({*locked.files, LOCK, *compiled}):
        if name not in compiled:
            yield f"{source} has no {name}"
        elif not _is(directory, name, compiled[name]):
            yield f"{name} is not what {source} compiles to"


def _is(directory: Path, name: str, data: bytes) -> bool:
    from kitaru_targets import lock

    try:
        return lock.read_file(directory, name) == data
    except StateError:
        return False
