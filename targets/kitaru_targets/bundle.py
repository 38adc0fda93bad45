"""Decides what travels to a step's container: the project's sources, the plan and the runtime."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from kitaru.errors import UsageError

# The project's import root is the bundle's root; a folder that no module can shadow by accident
# holds what the compiler wrote.
BUILD = "kitaru_build"
RESERVED = ("kitaru/", "kitaru.py", f"{BUILD}/", f"{BUILD}.py")
# What authors and operators use, and no step.
_LEFT_OUT = frozenset({"cli"})
# The earliest time that a zip archive can express: bundles carry no clock.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def make(
    project: Mapping[str, bytes], written: Mapping[str, bytes], *, with_runtime: bool
) -> bytes:
    """Return the bundle as a zip archive, the same bytes for the same contents.

    `project` are the project's files by their path below the import root, `written` the compiler's
    own files. `with_runtime` is false for images that hold Kitaru already. Raises UsageError when a
    project file stands where the bundle's own files have to be.
    """
    clash = sorted(name for name in project if name.startswith(RESERVED))
    if clash:
        raise UsageError(
            f"The project's {clash[0]} has a name that the bundle needs for itself.",
            help=f"rename it: modules called kitaru and {BUILD} are Kitaru's",
        )
    files = {**project, **{f"{BUILD}/{name}": data for name, data in written.items()}}
    if with_runtime:
        files |= runtime()
    return _zip(files)


def runtime() -> dict[str, bytes]:
    """Return the files of the installed `kitaru` package that a step needs."""
    return dict(_sources(resources.files("kitaru"), "kitaru/"))


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in _LEFT_OUT and entry.name != "__pycache__":
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _zip(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return target.getvalue()
