"""Fingerprints of checkpoints: digests of their code and all code that it mentions.

The fingerprint covers a definition and, transitively, the project's definitions that it mentions,
in any module. Comments, layout, docstrings and unmentioned definitions do not count. External
packages count by the names used of them and by the version installed where the fingerprint is made;
the standard library and Kitaru by name alone. Nothing is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.wire import modules
from kitaru.wire.installed import version_of
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from kitaru.wire.definitions import Definitions, Imports

SourceOf = Callable[[str], str | None]
VersionOf = Callable[[str], str]
_VERSION = "fingerprint/2"


def fingerprint(
    source_of: SourceOf, module: str, qualname: str, version_of: VersionOf = version_of
) -> str:
    """Return the fingerprint of a definition, `sha256:` and 64 hex digits.

    Args:
        source_of: returns the source of a project's module by dotted name; None for any other
            module. It is called with `a.b.__init__` to find out whether `a.b` is a package.
        module: the definition's module.
        qualname: its qualified name; the enclosing top-level definition counts as a whole.
        version_of: returns the version of an external package; by default the installed version.

    Returns:
        An empty string if the source has no such definition. The code is then unknown, and a caller
        must not treat two unknown definitions as equal.
    """
    found = fingerprint_parts(source_of, module, qualname, version_of)
    return found.digest if found else ""


class Part(Struct):
    """A definition that a fingerprint covers, and the lines of its statements in its module."""

    module: str
    name: str
    lines: tuple[int, ...]


class Package(Struct):
    """An external package and the names used of it; a star stands for a whole module.

    `version` is empty if it does not count, or if no installed distribution provides the package.
    """

    name: str
    version: str
    names: tuple[str, ...]

    @property
    def is_standard(self) -> bool:
        return self.name in sys.stdlib_module_names


class Parts(Struct):
    """A fingerprint and its contents: definitions of the project, and external packages."""

    digest: str
    definitions: tuple[Part, ...]
    packages: tuple[Package, ...]


def fingerprint_parts(
    source_of: SourceOf, module: str, qualname: str, version_of: VersionOf = version_of
) -> Parts | None:
    """Return a fingerprint and its contents, or None if the definition does not exist.

    The arguments are those of `fingerprint`.
    """
    walk = _Walk(source_of, version_of)
    return walk.parts() if walk.cover(module, qualname.partition(".")[0]) else None


def sources_under(root: Path) -> SourceOf:
    """Return a reader of the modules of the project whose import root is `root`."""
    return _Files(root).source_of


@lru_cache(maxsize=4096)
def fingerprint_function(func: Callable[..., Any]) -> str:
    """Return the fingerprint of a function from its project's files, or an empty string.

    It is empty if the source is not available, and for a closure: no source shows the values of
    captured variables.
    """
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not module or not qualname:
        return ""
    if "<locals>" in qualname and getattr(func, "__closure__", None):
        return ""
    name = modules.recorded_name(module)
    try:
        return fingerprint(_Files(_root_of(name)).source_of, name, qualname)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return ""


class _Walk:
    """Collects what a definition mentions, transitively."""

    def __init__(self, source_of: SourceOf, version_of: VersionOf) -> None:
        self._source_of = source_of
        self._version_of = version_of
        self._modules: dict[str, Definitions | None] = {}
        self._covered: dict[tuple[str, str], str] = {}
        self._followed: set[tuple[str, tuple[str, ...]]] = set()
        self._pending: list[tuple[str, tuple[str, ...], Imports]] = []

    def cover(self, module: str, name: str) -> bool:
        """Add definition `name` and all it mentions. Return False if it does not exist."""
        if not self._add(module, (name,), {}):
            return False
        while self._pending:
            self._add(*self._pending.pop())
        return True

    def parts(self) -> Parts:
        """Return everything that is covered."""
        inside = sorted(key for key, text in self._covered.items() if text)
        packages = self._packages()
        rows = [
            _VERSION,
            *(["/".join(key), self._covered[key]] for key in inside),
            *([p.name, p.version, *p.names] for p in packages),
        ]
        digest = "sha256:" + sha256(json.dumps(rows).encode()).hexdigest()
        definitions = tuple(Part(*key, self._lines(*key)) for key in inside)
        return Parts(digest, definitions, packages)

    def _packages(self) -> tuple[Package, ...]:
        used: dict[str, list[str]] = {}
        for (_, dotted), text in sorted(self._covered.items()):
            if not text:
                package, _, name = dotted.partition(".")
                used.setdefault(package, []).append(name)
        return tuple(Package(p, self._version(p), tuple(names)) for p, names in used.items())

    def _version(self, package: str) -> str:
        # A newer Python or Kitaru promises the same results, so it must not cause a new run.
        known = package in sys.stdlib_module_names or package in modules.OURS
        return "" if known else self._version_of(package)

    def _lines(self, module: str, name: str) -> tuple[int, ...]:
        here = self._read(module)
        return tuple(stmt.lineno for stmt in here.statements[name]) if here else ()

    def _add(self, module: str, chain: tuple[str, ...], local: Imports) -> bool:
        """Resolve the dotted `chain` in `module`. Return False if it leads nowhere."""
        here = self._read(module)
        if here is None:
            self._covered[("outside", ".".join((module, *chain[:1])))] = ""
            return True
        first, rest = chain[0], chain[1:]
        if first in local:
            return self._follow_all(module, local[first], rest)
        if (module, chain) in self._followed:
            return True
        self._followed.add((module, chain))
        if first in here.statements:
            self._cover_definition(module, first, here)
            return True
        if first in here.imports:
            return self._follow_all(module, here.imports[first], rest)
        return any(self._add(star, chain, {}) for star in self._stars(module, here))

    def _cover_definition(self, module: str, name: str, here: Definitions) -> None:
        if (module, name) in self._covered:
            return
        definition = here.read(name)
        self._covered[(module, name)] = definition.text
        self._pending += [(module, chain, definition.imports) for chain in definition.mentions]

    def _follow_all(
        self, module: str, ways: tuple[tuple[str, ...], ...], rest: tuple[str, ...]
    ) -> bool:
        # Every alternative import counts: at run time, any of them may be the one that works.
        found = [self._follow(module, (*way, *rest)) for way in ways]
        return any(found)

    def _follow(self, module: str, target: tuple[str, ...]) -> bool:
        """Cover an imported name: `target` is the imported module and the names in it."""
        base, *parts = target
        base = self._absolute(module, base)
        while parts and self._is_submodule(base, parts[0]):
            base = f"{base}.{parts.pop(0)}"
        here = self._read(base)
        if here is None or parts:
            return self._add(base, tuple(parts) or ("*",), {})
        for name in here.names():
            self._add(base, (name,), {})
        return True

    def _is_submodule(self, base: str, name: str) -> bool:
        here = self._read(base)
        if here is not None and name in here.statements:
            return False
        if here is not None and name in here.imports:
            # In a package, `from . import name` is the submodule; any other import hides it.
            ways = [(self._absolute(base, way[0]), *way[1:]) for way in here.imports[name]]
            if ways != [(base, name)]:
                return False
        return self._read(f"{base}.{name}") is not None

    def _absolute(self, module: str, base: str) -> str:
        """Resolve a relative import. A package counts one level less than a module."""
        tail = base.lstrip(".")
        level = len(base) - len(tail)
        if not level:
            return base
        package = self._source_of(f"{module}.__init__") is not None
        steps = module.split(".")
        kept = steps[: len(steps) - level + package]
        return ".".join([*kept, tail] if tail else kept)

    def _stars(self, module: str, here: Definitions) -> Iterable[str]:
        stars = (self._absolute(module, star) for star in here.stars)
        return [star for star in stars if star != module and self._read(star) is not None]

    def _read(self, module: str) -> Definitions | None:
        # Imported here because `import kitaru` does not need the modules for parsing.
        from kitaru.wire.definitions import read_definitions

        if module not in self._modules:
            source = self._source_of(module)
            self._modules[module] = None if source is None else read_definitions(source)
        return self._modules[module]


class _Files:
    """Finds the source files of the project whose import root is `root`."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def source_of(self, module: str) -> str | None:
        if module.partition(".")[0] in modules.OURS or not module:
            return None
        for file in self._candidates(module):
            if modules.is_project(file) and file.is_file():
                return _decode(file.read_bytes())
        return None

    def _candidates(self, module: str) -> list[Path]:
        loaded = modules.file_of(module)
        if loaded is not None or self._root is None:
            return [loaded] if loaded is not None else []
        place = self._root.joinpath(*module.split("."))
        return [place.with_suffix(".py"), place / "__init__.py"]


def _root_of(name: str) -> Path | None:
    """Return the import root of the project that the loaded module `name` belongs to."""
    file = modules.file_of(name)
    depth = name.count(".") + (file is not None and file.stem == "__init__")
    return file.parents[depth] if file is not None else None


def _decode(source: bytes) -> str:
    from importlib.util import decode_source

    return decode_source(source)
