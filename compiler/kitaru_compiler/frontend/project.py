"""Decides which files belong to a flow: its import root and what it imports from there."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

from kitaru_compiler.frontend.source import Source, read

# A project may itself stand beside a checkout of Kitaru; the runtime is never part of its code.
RESERVED = frozenset({"kitaru", "kitaru_compiler", "kitaru_targets", "kitaru_templates"})


@dataclass
class Project:
    """The sources of one project, read when asked for; `root` is on `sys.path` in a step."""

    root: Path
    sources: dict[str, Source | None] = field(default_factory=dict)

    def find(self, module: str) -> Source | None:
        """Return the module's source, or None when the project has no such file."""
        if module not in self.sources:
            self.sources[module] = self._load(module)
        return self.sources[module]

    def _load(self, module: str) -> Source | None:
        if module.split(".")[0] in RESERVED:
            return None
        stem = self.root.joinpath(*module.split("."))
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return read(path, module, path.relative_to(self.root).as_posix())
        return None

    def is_package(self, module: str) -> bool:
        """Say whether `module` is a package of the project."""
        return self.root.joinpath(*module.split(".")).is_dir()

    def closure(self, module: str) -> tuple[dict[str, bytes], frozenset[str]]:
        """Follow the imports from `module`; return its files by relative path and outside imports.

        Raises SourceError when an imported project file is no Python.
        """
        files: dict[str, bytes] = {}
        outside: set[str] = set()
        pending, seen = [module], {module}
        while pending:
            name = pending.pop()
            source = self.find(name)
            if source is None:
                if not self.is_package(name):
                    outside.add(name.split(".")[0])
                continue
            files[source.file] = (self.root / source.file).read_bytes()
            for wanted in _imports(source, self):
                if wanted not in seen:
                    seen.add(wanted)
                    pending.append(wanted)
        return files, frozenset(outside)


def locate(path: Path) -> tuple[Project, str]:
    """Return the project that `path` belongs to and the module's dotted name.

    The import root is the folder above the outermost package that holds the file.
    """
    path = path.resolve()
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return Project(folder), ".".join(parts)


def absolute(module: str, is_package: bool, level: int, name: str) -> str:
    """Return the absolute name of a relative import in `module`."""
    if not level:
        return name
    base = module.split(".")
    base = base[: len(base) - level + is_package]
    return ".".join([*base, name] if name else base)


def _imports(source: Source, project: Project) -> list[str]:
    found: list[str] = []
    package = source.file.endswith("__init__.py")
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                found += [prefix for alias in names for prefix in _prefixes(alias.name)]
            case ast.ImportFrom(module=name, names=names, level=level):
                base = absolute(source.module, package, level, name or "")
                found += _prefixes(base)
                members = [f"{base}.{alias.name}" for alias in names]
                found += [m for m in members if project.find(m) or project.is_package(m)]
    return [name for name in found if name]


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: index + 1]) for index in range(len(parts))]
