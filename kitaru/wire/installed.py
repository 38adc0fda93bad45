"""Find the version of an imported package without importing it.

`importlib.metadata` returns the same, but takes a tenth of a second to import and half a second to
search a hundred distributions, which is too slow for every step.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path

_INFO = ".dist-info"


@lru_cache(maxsize=1024)
def version_of(package: str) -> str:
    """Return the versions behind a top-level package, empty if no distribution provides it.

    Several distributions can share a package, for example a vendor's namespace. All of them count.

        version_of("yaml")  # "pyyaml 6.0.2"
    """
    infos = _infos(tuple(sys.path))
    if _plain(package) in infos:
        found = [_plain(package)]
    else:
        found = sorted(name for name, (_, folder) in infos.items() if _provides(folder, package))
    return ", ".join(f"{name} {infos[name][0]}" for name in found)


@lru_cache(maxsize=2)
def _infos(path: tuple[str, ...]) -> dict[str, tuple[str, Path]]:
    """Return version and metadata of each distribution by name; the first on the path counts."""
    found: dict[str, tuple[str, Path]] = {}
    for folder in filter(Path.is_dir, map(Path, path)):
        for info in folder.glob(f"*{_INFO}"):
            name, _, version = info.name.removesuffix(_INFO).partition("-")
            found.setdefault(_plain(name), (version, info))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _provides(info: Path, package: str) -> bool:
    try:
        return package in (info / "top_level.txt").read_text("utf-8").split()
    except OSError:
        pass
    try:
        record = "\n" + (info / "RECORD").read_text("utf-8")
    except OSError:
        return False
    return any(f"\n{package}{end}" in record for end in ("/", "."))
