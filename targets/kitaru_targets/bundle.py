"""The bundle of a step's container: the project's sources, the plan and the runtime.

Only `contents` reads a bundle, and never by a path on a disk: the checked bytes are the bytes that
are used. An archive that would unpack to more than the limits is refused before it is unpacked.
"""

from __future__ import annotations

import ast
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kitaru.errors import StateError, UsageError

# The project's import root is the bundle's root. The compiler's files are in a folder whose name no
# module shadows by accident.
BUILD = "kitaru_build"
RESERVED = ("kitaru/", "kitaru.py", f"{BUILD}/", f"{BUILD}.py")
# Parts that only authors and operators use, and no step.
_LEFT_OUT = frozenset({"cli", "server"})
# Limits of a bundle, the same as in `bootstrap.py`. The size is that of all unpacked files, so the
# ratio of compression needs no limit of its own.
MAX_BYTES = 64 * 1024 * 1024
MAX_FILES = 20_000
MAX_DEPTH = 50
# The types of a member in the attributes of a file: unset, a folder, a file.
_PLAIN_TYPES = (0, 4, 8)
# The standard library's errors for data that is not an archive, or a damaged archive.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError,
    OSError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip
_AGAIN = "Compile again: kitaru compile FLOW --target T"
# The earliest time in a zip archive: bundles contain no real time.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def make(
    project: Mapping[str, bytes], written: Mapping[str, bytes], *, with_runtime: bool
) -> bytes:
    """Return the bundle as a zip archive, with the same bytes for the same contents.

    `project` are the project's files by their path below the import root. `written` are the
    compiler's own files. `with_runtime` is false for images that already contain Kitaru. Raises
    UsageError if a project file occupies the path of one of the bundle's own files, or if the files
    exceed the limits of a step.
    """
    clash = sorted(name for name in project if name.startswith(RESERVED))
    if clash:
        raise UsageError(
            f"The project's {clash[0]} has a name that the bundle needs for itself.",
            help=f"rename it: modules called kitaru and {BUILD} are Kitaru's",
        )
    files = {**project, **{f"{BUILD}/{name}": data for name, data in written.items()}}
    runtime = _runtime() if with_runtime else _NO_RUNTIME
    _check_limits({name: len(data) for name, data in files.items()} | runtime.sizes)
    return _zip(files, runtime.archive)


def contents(data: bytes) -> dict[str, bytes]:
    """Return the files of a bundle by their relative paths, none of which leaves the bundle.

    Raises:
        StateError: the data is not an archive or is damaged, a path is unsafe, a member is a link,
            or the archive would unpack to more than `MAX_BYTES` or `MAX_FILES`.

        contents(store.get(keys.bundle(digest)))["kitaru_build/plan.json"]
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members)
            return {m.filename: archive.read(m) for m in members if not m.is_dir()}
    except _DAMAGED as error:
        raise StateError(
            f"The bundle is damaged: {str(error) or type(error).__name__}.",
            help=_AGAIN,
        ) from error


def written(files: Mapping[str, bytes], name: str) -> bytes:
    """Return one of the compiler's own files; raise StateError if it is missing."""
    try:
        return files[f"{BUILD}/{name}"]
    except KeyError:
        raise StateError(f"The bundle is damaged: it has no {name}.", help=_AGAIN) from None


def steps(files: Mapping[str, bytes]) -> str:
    """Return the text of `steps.py`; raise StateError if it is missing or not valid Python."""
    try:
        text = written(files, "steps.py").decode()
        ast.parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise StateError(
            f"The bundle is damaged: steps.py is no Python ({error}).", help=_AGAIN
        ) from error
    return text


def project(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the project's own files of a bundle."""
    return {name: data for name, data in files.items() if not name.startswith(RESERVED)}


def unpack(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files from `contents` to a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Raise ValueError if an archive must not be unpacked."""
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES or len(members) > MAX_FILES:
        raise ValueError(
            f"it would unpack to {size:,} bytes in {len(members):,} files, more than "
            f"{MAX_BYTES:,} bytes or {MAX_FILES:,} files"
        )
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two files have the same name")
    for member in members:
        path = PurePosixPath(member.filename)
        if (
            path.is_absolute()
            or not path.parts
            or ".." in path.parts
            or "\\" in member.filename
            or len(path.parts) >= MAX_DEPTH
            or member.external_attr >> 28 not in _PLAIN_TYPES
        ):
            raise ValueError(f"it holds the unsafe path {member.filename!r}")
        # Other methods of compression are unpacked without a limit on the size of a read.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename!r} is compressed in an unknown way")


def _check_limits(sizes: Mapping[str, int]) -> None:
    deepest = max(sizes, key=lambda name: name.count("/"), default="")
    if sum(sizes.values()) > MAX_BYTES or len(sizes) > MAX_FILES:
        raise UsageError(
            f"The flow's files are too large to travel: {sum(sizes.values()):,} bytes in "
            f"{len(sizes):,} files, and a step unpacks {MAX_BYTES:,} bytes in {MAX_FILES:,} files "
            "at most.",
            help='Leave files out, with [tool.kitaru] exclude = ["data/**"], and read them from a '
            "bucket in the flow.",
        )
    if deepest.count("/") + 1 >= MAX_DEPTH:
        raise UsageError(
            f"{deepest} is in too many folders: a step unpacks {MAX_DEPTH - 1} levels at most.",
            help="Move the file up, or leave it out with [tool.kitaru] exclude.",
        )


class _Runtime(NamedTuple):
    """Kitaru for the steps: an archive, and the sizes of its files in bytes."""

    archive: bytes
    sizes: dict[str, int]


_NO_RUNTIME = _Runtime(b"", {})


@cache
def _runtime() -> _Runtime:
    """Return the files of the installed `kitaru` package that a step needs.

    Compressing them takes longer than the compilation of most flows, so a process does it once.
    """
    files = dict(_sources(resources.files("kitaru"), "kitaru/"))
    del files["kitaru/__main__.py"]  # It starts the command line.
    return _Runtime(_zip(files), {name: len(data) for name, data in files.items()})


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in _LEFT_OUT and entry.name != "__pycache__":
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _zip(files: Mapping[str, bytes], first: bytes = b"") -> bytes:
    """Return an archive of files, which continues the archive `first`."""
    target = io.BytesIO(first)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return target.getvalue()
