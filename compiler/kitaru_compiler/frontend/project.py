"""The modules of a flow: its import roots and the modules imported from them."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from kitaru.config import compiled_settings
from kitaru.errors import UsageError
from kitaru.toml_files import project_file
from kitaru.wire import disk
from kitaru.wire.modules import place_of
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_compiler.frontend.codecs import registers, registrations
from kitaru_compiler.frontend.files import Reference, below, files_named, matched, references
from kitaru_compiler.frontend.paths import WILD, Paths
from kitaru_compiler.frontend.source import Source, read

# A project may be located next to a checkout of Kitaru. The runtime never belongs to its code.
RESERVED = frozenset({"kitaru", "kitaru_compiler", "kitaru_targets", "kitaru_templates"})


# Markers of code that writes a memory, or an artifact that another execution loads.
_WRITES = (b"memory", b"save(")
_TEST = re.compile(r"(^|/)(tests?/|test_[^/]*$|[^/]*_test\.py$|conftest\.py$)")


@dataclass
class Closure:
    """The transitive imports of a flow's module: `sources` by file, `outside` top-level names.

    `references` are those of all sources, in the order in which they were found. `writers` are
    files that the flow does not import but whose records it may read. `registrars` are files that
    the flow does not import and that register codecs for classes it imports.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    outside: frozenset[str] = frozenset()
    references: tuple[Reference, ...] = ()
    writers: frozenset[str] = frozenset()
    registrars: frozenset[str] = frozenset()

    @property
    def codecs(self) -> tuple[str, ...]:
        """The modules that register a codec when they are imported."""
        return tuple(sorted(one.module for one in self.sources.values() if registers(one)))


@dataclass
class Project:
    """The sources of one project, read on demand.

    `root` is the import root, which is on `sys.path` in a step. `base` is the root, or a folder
    above it that the code refers to. Files are named relative to `base`, also in the bundle.
    `included` are the files of `[tool.kitaru] include`. `unsaved` contains texts that replace those
    of files, such as an editor's, by resolved path.
    """

    root: Path
    base: Path
    sources: dict[str, Source | None] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)
    included: tuple[Path, ...] = ()
    unsaved: Mapping[Path, str] = field(default_factory=dict)
    _closures: dict[str, Closure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roots = [self.root]
        self.paths = Paths(self.find, self.folder_of, lambda source: self.base / source.file)

    def find(self, module: str) -> Source | None:
        """Return the module's source, or None if the project has no such file."""
        if module not in self.sources:
            self.sources[module] = self._load(module)
        return self.sources[module]

    def _load(self, module: str) -> Source | None:
        parts = module.split(".")
        if parts[0] in RESERVED:
            return None
        for root in self.roots:
            stem = root.joinpath(*parts)
            for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
                if disk.is_file(path) and path.is_relative_to(self.base):
                    file = path.relative_to(self.base).as_posix()
                    return read(path, module, file, self.unsaved)
        return None

    def is_package(self, module: str) -> bool:
        """Return whether `module` is a package of the project."""
        return self.folder_of(module) is not None

    def folder_of(self, module: str) -> Path | None:
        """Return the folder of a package of the project, with or without an `__init__.py`."""
        parts = module.split(".")
        if not all(parts) or parts[0] in RESERVED:
            return None
        folders = (root.joinpath(*parts) for root in self.roots)
        return next((folder for folder in folders if disk.is_dir(folder)), None)

    def closure(self, module: str) -> Closure:
        """Follow the imports from `module`, including dynamic imports.

        Raises SourceError if an imported project file is not valid Python.
        """
        if module not in self._closures:
            self._closures[module] = self._close(module)
        return self._closures[module]

    def _close(self, module: str) -> Closure:
        closure, outside = Closure(), set[str]()
        made_up = [name for path in self.included for name in self._module_names(path)]
        pending, seen = [*made_up, module], {module, *made_up}
        while pending:
            while pending:
                name = pending.pop()
                source = self.find(name)
                if source is None:
                    if not self.is_package(name):
                        outside.add(name.split(".")[0])
                    continue
                if source.file in closure.sources:
                    continue
                closure.sources[source.file] = source
                found = references(source, self.paths)
                closure.references += (*found,)
                self._add_roots(found)
                wanted = [name for name, _ in imports(source, self)]
                wanted += [name for each in found for name in self._modules(each)]
                pending += [name for name in wanted if name not in seen]
                seen.update(wanted)
            if not closure.writers and any(map(_reads_records, closure.sources.values())):
                writers = {n: s for n, s in self._writers() if s.file not in closure.sources}
                closure.writers = frozenset(source.file for source in writers.values())
                pending += writers
                seen.update(writers)
            if not pending:
                registrars = {s.module: s for s in self._registrars(closure, outside)}
                closure.registrars |= {source.file for source in registrars.values()}
                pending += registrars
                seen.update(registrars)
        # A root may have been added after a name was looked up.
        closure.outside = frozenset(name for name in outside if self.find(name) is None)
        return closure

    def _writers(self) -> Iterator[tuple[str, Source]]:
        """Yield the modules next to the flow that write records for other executions.

        A record names the module of its class. Without that module, a step cannot read the value
        that `memory.get` returns locally.
        """
        for path in below(self.root):
            if _TEST.search(path.relative_to(self.root).as_posix()):
                continue
            if path.suffix == ".py" and b"kitaru" in (data := disk.read_bytes(path)):
                if not any(word in data for word in _WRITES) or not (name := self._tried(path)):
                    continue
                source = self.find(name)
                if source is not None:
                    yield name, source

    def _registrars(self, closure: Closure, outside: set[str]) -> Iterator[Source]:
        """Yield modules next to the flow's that register a codec for one of these classes.

        They are searched for in the folders of the flow's modules, because no import names
        `codecs.py`.
        """
        known = {source.module for source in closure.sources.values()} | outside
        folders = {(self.base / file).parent for file in closure.sources}
        for path in sorted(path for folder in folders for path in disk.glob(folder, "*.py")):
            file = path.relative_to(self.base).as_posix()
            if file in closure.sources or _TEST.search(file):
                continue
            if b"register_codec" not in disk.read_bytes(path):
                continue
            before = set(self.sources)
            name = self._tried(path)
            source = self.find(name) if name else None
            if source is not None and not known.isdisjoint(self._registered(source)):
                yield source
            else:
                # A file of another flow: its faults must not be reported here.
                self.sources = {n: s for n, s in self.sources.items() if n in before}

    def _registered(self, source: Source) -> Iterator[str]:
        """Yield the modules from which the classes with a codec in a file are imported."""
        roots = {
            ast.unparse(one.cls).partition(".")[0]
            for one in registrations(source)
            if one.cls is not None and not one.inside
        }
        for node in source.nodes.imports:
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) not in roots:
                    continue
                name = alias.name
                if isinstance(node, ast.ImportFrom):
                    name = source.absolute(node.level, node.module or "")
                    yield f"{name}.{alias.name}"
                yield name
                # For outside packages only the import is known, not the modules.
                if self.find(name) is None:
                    yield name.partition(".")[0]

    def _tried(self, path: Path) -> str:
        try:
            return self.module_of(path)
        except (SourceError, UsageError):
            return ""  # a file of the folder that is unrelated to the flow

    def _add_roots(self, found: list[Reference]) -> None:
        for each in found:
            folder = self.base / each.path
            if each.kind == "root" and disk.is_dir(folder) and folder not in self.roots:
                self.roots.insert(0 if each.first else len(self.roots), folder)
                self.sources = {n: s for n, s in self.sources.items() if s is not None}

    def _modules(self, reference: Reference) -> Iterator[str]:
        """Yield the project modules that a reference other than an import names."""
        if reference.kind == "module":
            yield from self._named(reference.module)
        elif reference.kind != "root":
            for path in matched(reference, self.base):
                yield from self._module_names(path)

    def _module_names(self, path: Path) -> list[str]:
        """Return the module of a file, and its packages; nothing for a data file."""
        name = self.module_of(path) if path.suffix == ".py" else ""
        return _prefixes(name) if name else []

    def _named(self, pattern: str) -> Iterator[str]:
        if WILD not in pattern:
            yield from _prefixes(pattern)
            return
        fixed = pattern.partition(WILD)[0].rpartition(".")[0]
        folder = self.folder_of(fixed) if fixed else None
        for path in below(folder) if folder else ():
            name = self.module_of(path) if path.suffix == ".py" else ""
            if name and fnmatchcase(name, pattern.replace(WILD, "*")):
                yield from _prefixes(name)

    def module_of(self, path: Path) -> str:
        """Return the dotted name under which a file is imported, empty if it is below no root."""
        for root in self.roots:
            if path.is_relative_to(root):
                parts = path.relative_to(root).with_suffix("").parts
                kept = parts[:-1] if parts[-1] == "__init__" else parts
                name = ".".join(kept)
                source = self.find(name) if all(part.isidentifier() for part in kept) else None
                if source and self.base / source.file == path:
                    return name
        return ""


def open_project(
    path: Path, module: str = "", unsaved: Mapping[Path, str] | None = None
) -> tuple[Project, Source]:
    """Return the project of the file at `path`, and the file's source, which is one of its modules.

    `module` is the dotted name that the user passed, if any; see `place_of`. `unsaved` contains
    texts that replace those of files, by resolved path.

    Raises UsageError if the file cannot be read and SourceError if it is not valid Python.
    """
    path = disk.resolved(path)
    root, name = place_of(path, module)
    start = project_file(path.parent)
    folder = disk.resolved(start.parent) if start else root
    included = tuple(files_named(folder, compiled_settings(path.parent).get("include", [])))
    base = Path(os.path.commonpath([root, *included]))
    while True:
        project = Project(root, base, included=included, unsaved=unsaved or {})
        source = read(path, name, path.relative_to(base).as_posix(), unsaved)
        project.sources[name] = source
        wider = _common(project, name, folder)
        if wider == base:
            return project, source
        # Imports from a higher folder may refer to an even higher folder.
        base = wider


def base_of(path: Path, module: str = "") -> Path:
    """Return the folder to which file names of a project are relative."""
    try:
        return open_project(path, module)[0].base
    except (SourceError, RecursionError):
        return place_of(disk.resolved(path), module)[0]


def _common(project: Project, module: str, folder: Path) -> Path:
    """Return the folder that contains the base and all paths that the code refers to.

    `folder` is the folder in which commands are run: it contains the pyproject.toml.
    """
    try:
        found = project.closure(module).references
    except SourceError:
        return project.base  # read again and reported when the closure is needed
    base = project.base
    for each in found:
        fixed, wild, _ = each.path.partition(WILD)
        path = Path(fixed.rpartition("/")[0] if wild else fixed)
        if not each.path:
            continue
        if each.in_cwd:
            # A file next to the flow, or else one that a command in the project's folder finds.
            here = any(matched(each, base)) or not any(matched(each, folder))
            base = base if here else Path(os.path.commonpath([base, folder]))
        elif disk.exists(path) and path not in (Path(path.anchor), disk.home()):
            base = Path(os.path.commonpath([base, path]))
    return base


def _reads_records(source: Source) -> bool:
    """Return whether a file may read records of other executions: memories and artifacts."""
    if "kitaru" not in source.text:
        return False
    for node in source.nodes.imports:
        names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
        if names & {"memory", "load"} and getattr(node, "module", "") == "kitaru":
            return True
    for attribute in source.nodes.of(ast.Attribute):
        match attribute:
            case ast.Attribute(value=ast.Name(id="kitaru"), attr="memory" | "load"):
                return True
    return False


def imports(source: Source, project: Project) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the absolute name of each imported module in a file, with the statement."""
    for node in source.nodes.imports:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from ((prefix, node) for prefix in _prefixes(alias.name))
            case ast.ImportFrom(module=name, names=names, level=level):
                base = source.absolute(level, name or "")
                yield from ((prefix, node) for prefix in _prefixes(base) if prefix)
                for alias in names:
                    member = f"{base}.{alias.name}"
                    if project.find(member) or project.is_package(member):
                        yield member, node


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: index + 1]) for index in range(len(parts))]
