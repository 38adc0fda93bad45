"""Determine the distributions that a container needs beyond its image, from the project's lists.

The first existing list counts: the file in the setting `requirements`, a `requirements.txt` next to
the flow or next to pyproject.toml, `[project] dependencies` of pyproject.toml. A list of ranges
gets its versions from a constraints file (`-c`) or from a lock file: uv.lock, pylock.toml,
poetry.lock or pdm.lock. From the optional groups of pyproject.toml, a step gets the distributions
that the flow's code imports.

The same lists contain the hashes of the installed files. A lock file has those of its packages and
their dependencies, a requirements file those after `--hash`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru.toml_files import project_file, table
from kitaru.wire import disk
from kitaru.wire.plan import Span
from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import (
    IMPORT_NOT_IN_IMAGE,
    REQUIREMENT_NOT_IN_INDEX,
    REQUIREMENT_NOT_PINNED,
    REQUIREMENT_WITHOUT_HASH,
)
from kitaru_compiler.frontend.lock_files import (
    NAMES,
    Lock,
    Locked,
    Need,
    condition,
    need_of,
    normal,
    read_lock,
)
from kitaru_compiler.frontend.project import RESERVED, Project
from kitaru_compiler.frontend.source import Source

DEFAULT_FILE = "requirements.txt"
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+*_-]+\Z")
_HASH = re.compile(r"--hash[= ](sha256:[0-9a-f]{64})(?=\s|$)")
# Modules whose distribution's name does not contain their own.
_DISTRIBUTIONS = {
    "attr": "attrs", "bs4": "beautifulsoup4", "crypto": "pycryptodome", "cv2": "opencv-python",
    "fitz": "pymupdf", "git": "gitpython", "google": "google", "pil": "pillow", "pkg-resources":
    "setuptools", "psycopg2": "psycopg2-binary", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "usb": "pyusb", "win32api": "pywin32", "zmq": "pyzmq",
}  # fmt: skip


class _Listed(Struct):
    """One requirement: `text` without marker, hashes and comment, and its location in the list."""

    text: str
    file: str
    line: int
    width: int
    marker: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return normal(re.split(r"[\[=<>!~;@ (]", self.text, maxsplit=1)[0])

    @property
    def span(self) -> Span:
        return Span(self.file, self.line, 1, self.line, self.width + 1)


@dataclass
class _Lists:
    """The requirements that the project declares.

    `groups` are the requirements of optional groups, `versions` the pins of constraints, `lock` the
    project's lock file, `texts` the files that findings refer to.
    """

    listed: list[_Listed] = field(default_factory=list)
    groups: list[_Listed] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    texts: dict[str, str] = field(default_factory=dict)
    of_project: bool = False


class Requirements(Struct):
    """The distributions that the steps of a flow install.

    `pins` are `NAME==VERSION`, sorted: the project's list, and the dependencies that a lock adds on
    every platform. `locked` contains all data in the project's lists: further distributions for
    some containers, and the hashes. `findings` are about uncertainties.
    """

    pins: tuple[str, ...]
    locked: tuple[Locked, ...]
    findings: tuple[Diagnostic, ...]


def requirements(project: Project, source: Source, settings: dict[str, Any]) -> Requirements:
    """Return the requirements of a flow's steps.

    An unpinned requirement of pyproject.toml is left out, and reported if the flow imports it. A
    requirement that a lock takes from outside an index is left out, too.
    """
    lists = _lists(project, settings)
    imported = _imported(project, source)
    found: list[Diagnostic] = []
    pins: dict[str, str] = {}
    chosen: dict[str, _Listed] = {}
    several: list[Need] = []
    for each in _chosen(lists, imported):
        if origin := lists.lock.origin(each.name):
            found.append(_elsewhere(each, origin))
            continue
        pin = _pinned(each, lists)
        if not PINNED.match(pin) and each.name in lists.lock.packages:
            # The lock has a version for each Python version.
            several.append(need_of(each.text))
            chosen.setdefault(each.name, each)
            continue
        if not PINNED.match(pin):
            # The list of a whole project contains more than one flow needs.
            if not lists.of_project or any(_provides(each.name, name) for name in imported):
                found.append(_unpinned(each, lists))
            if lists.of_project:
                continue
        pins.setdefault(each.name, pin)
        chosen.setdefault(each.name, each)
    for name in lists.lock.needed_everywhere(pins):
        version = lists.versions.get(name) or lists.lock.version(name)
        if version and name not in RESERVED and not lists.lock.origin(name):
            pins.setdefault(name, f"{name}=={version}")
    locked = _locked(pins, chosen, several, lists)
    found += _without_hash(pins, chosen, locked)
    known = {each.name for each in (*lists.listed, *lists.groups)} | lists.lock.packages.keys()
    found += _missing(project, imported, known)
    return Requirements(tuple(sorted(pins.values())), locked, tuple(found))


def _chosen(lists: _Lists, imported: Iterable[str]) -> Iterator[_Listed]:
    """Yield the listed requirements that a container of the flow installs."""
    wanted = [e for e in lists.groups if any(_provides(e.name, module) for module in imported)]
    for each in (*lists.listed, *wanted):
        is_runtime = lists.of_project and each.name in RESERVED  # it is part of the bundle
        if not is_runtime and condition(each.marker) is not None:
            yield each


def _locked(
    pins: dict[str, str], chosen: dict[str, _Listed], several: list[Need], lists: _Lists
) -> tuple[Locked, ...]:
    """Return the lists' data about the pins, and about their locked dependencies."""
    versions = {name: pin.partition("==")[2] for name, pin in pins.items()}
    own: dict[str, Locked] = {}
    for name, each in chosen.items():
        if each.hashes and PINNED.match(pins.get(name, "")):
            marker = condition(each.marker) or ""
            own[name] = Locked(name, versions[name], marker, each.hashes)
    roots = [
        need_of(pin)
        for name, pin in pins.items()
        if any(p.version == versions[name] for p in lists.lock.packages.get(name, []))
    ]
    roots += several
    found = [
        each
        for each in (lists.lock.closure(roots) if roots else ())
        if each.name not in RESERVED | own.keys()
        and each.version == versions.get(each.name, each.version)
        and not lists.lock.origin(each.name)
    ]
    return tuple(sorted([*found, *own.values()], key=lambda each: (each.name, each.version)))


def _without_hash(
    pins: dict[str, str], chosen: dict[str, _Listed], locked: tuple[Locked, ...]
) -> Iterator[Diagnostic]:
    hashed = {each.name for each in locked if each.hashes}
    pinned = {name for name, pin in pins.items() if PINNED.match(pin)}
    bare = sorted({*pinned, *(each.name for each in locked)} - hashed)
    if not bare or not chosen:
        return
    first = next((chosen[name] for name in bare if name in chosen), next(iter(chosen.values())))
    shown = ", ".join(f"`{name}`" for name in bare[:3]) + (", …" if len(bare) > 3 else "")
    yield Diagnostic(
        REQUIREMENT_WITHOUT_HASH,
        first.span,
        f"no hash is known of {shown}: a step installs any file that the index has under its"
        " version, and any version of what it needs",
        help="lock the project with `uv lock`, or list hashes: `uv pip compile --generate-hashes`",
    )


def _elsewhere(each: _Listed, origin: str) -> Diagnostic:
    return Diagnostic(
        REQUIREMENT_NOT_IN_INDEX,
        each.span,
        f"`{each.name}` comes from {origin}, so no step installs it",
        help="use an image that has it, or publish it to an index",
    )


def requirement_texts(project: Project, settings: dict[str, Any]) -> dict[str, str]:
    """Return the text of each list, by its name in findings; empty without a list."""
    return _lists(project, settings).texts


def _pinned(each: _Listed, lists: _Lists) -> str:
    version = lists.versions.get(each.name) or lists.lock.version(each.name)
    if PINNED.match(each.text) or not version:
        return each.text
    extras = re.search(r"\[[^\]]*\]", each.text)
    return f"{each.name}{extras[0] if extras else ''}=={version}"


def _unpinned(each: _Listed, lists: _Lists) -> Diagnostic:
    message = f"`{each.text}` has no exact version: two runs may run different code"
    help = "pin it with =="
    if lists.of_project:
        message = f"`{each.text}` has no exact version, so no step installs it"
        help = "lock the project, for example with `uv lock`, or pin it with =="
    return Diagnostic(REQUIREMENT_NOT_PINNED, each.span, message, help=help)


def _lists(project: Project, settings: dict[str, Any]) -> _Lists:
    lists = _Lists()
    start = project_file(project.root)
    folder = start.parent if start else project.root
    files = [project.root / DEFAULT_FILE, folder / DEFAULT_FILE]
    if named := settings.get("requirements"):
        files = [Path(named)]
    file = next((path for path in files if disk.is_file(path)), None)
    if file is not None:
        _read_list(file, file.name, lists, set())
    if start is not None:
        _read_project(start, lists, with_dependencies=file is None and not named)
    lock = next((folder / name for name in NAMES if disk.is_file(folder / name)), None)
    if lock is not None:
        lists.lock = read_lock(lock)
    return lists


def _read_list(path: Path, name: str, lists: _Lists, seen: set[Path]) -> None:
    if path in seen or not disk.is_file(path):
        return
    seen.add(path)
    text = disk.read_text(path, "replace")
    lists.texts[name] = text
    for number, width, line in _logical_lines(text):
        hashes = tuple(sorted(set(_HASH.findall(line))))
        content = line.partition(" --hash")[0].strip()
        option = re.match(r"(-r|--requirement|-c|--constraint)[ =]?\s*(\S+)", content)
        if option:
            other = path.parent / option[2]
            if option[1] in ("-r", "--requirement"):
                _read_list(other, f"{Path(name).parent / option[2]}", lists, seen)
            else:
                lists.versions |= _constraints(other)
            continue
        if not content or content.startswith(("#", "-", ".", "/")) or "://" in content:
            continue
        plain, _, marker = content.partition(";")
        lists.listed.append(_Listed(plain.strip(), name, number, width, marker.strip(), hashes))


def _logical_lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the number and width of a line, and its content with continuation lines."""
    number, width, parts = 0, 0, list[str]()
    for at, line in enumerate([*text.splitlines(), ""], 1):
        if not parts:
            number, width = at, len(line)
        content = f" {line}".partition(" #")[0].rstrip()
        parts.append(content.removesuffix("\\"))
        if not content.endswith("\\"):
            yield number, width, " ".join(parts).strip()
            parts = []


def _constraints(path: Path) -> dict[str, str]:
    lines = disk.read_text(path, "replace").splitlines() if disk.is_file(path) else []
    plain = (line.partition(";")[0].partition(" ")[0].strip() for line in lines)
    pairs = (line.partition("==") for line in plain if PINNED.match(line))
    return {normal(name.partition("[")[0]): version for name, _, version in pairs}


def _read_project(path: Path, lists: _Lists, *, with_dependencies: bool) -> None:
    text = disk.read_text(path)
    lines = text.splitlines()

    def listed(said: Any) -> Iterator[_Listed]:
        for each in said if isinstance(said, list) else ():
            if isinstance(each, str):
                at = next((n for n, line in enumerate(lines, 1) if each in line), 1)
                plain, _, marker = each.partition(";")
                width = len(lines[at - 1]) if lines else 0
                yield _Listed(plain.replace(" ", ""), path.name, at, width, marker.strip())

    whole = table(path, "project")
    poetry = table(path, "tool", "poetry")
    if with_dependencies:
        found = [*listed(whole.get("dependencies"))]
        found += listed([n for n in poetry.get("dependencies", {}) if n != "python"])
        if found:
            lists.listed += found
            lists.of_project = True
            lists.texts[path.name] = text
    groups = [*whole.get("optional-dependencies", {}).values()]
    groups += table(path, "dependency-groups").values()
    groups += [[*g.get("dependencies", {})] for g in poetry.get("group", {}).values()]
    for group in groups:
        lists.groups += listed(group)


def _missing(
    project: Project, imported: dict[str, tuple[Source, ast.AST]], known: set[str]
) -> Iterator[Diagnostic]:
    """Warn of imports without a distribution; names may differ slightly from the module's."""
    for name, (source, node) in sorted(imported.items()):
        if any(_provides(distribution, name) for distribution in known):
            continue
        message = (
            f"`{name}` is imported, and no requirement provides it: a step may fail to import it"
        )
        fix = f"add it to {DEFAULT_FILE} with its exact version, or use an image that has it"
        if folder := _namespace_above(project, name):
            message = f"`{name}` is not below the import root {project.root.name}/ of this flow"
            module = (project.base / source.file).relative_to(folder).with_suffix("")
            dotted = ".".join(module.parts)
            fix = f"name the flow as a module, {dotted}:FLOW, in the folder {folder.name}/"
        yield Diagnostic(IMPORT_NOT_IN_IMAGE, source.span(node), message, help=fix)


def _namespace_above(project: Project, name: str) -> Path | None:
    """Return the folder above the import root with a package `name`, up to pyproject.toml."""
    start = project_file(project.root)
    for folder in project.root.parents:
        if start is None or not folder.is_relative_to(start.parent):
            return None
        if disk.is_dir(folder / name) or disk.is_file(folder / f"{name}.py"):
            return folder
    return None


def _provides(distribution: str, module: str) -> bool:
    name = _DISTRIBUTIONS.get(normal(module), normal(module))
    return name in distribution or distribution in name


def _imported(project: Project, source: Source) -> dict[str, tuple[Source, ast.AST]]:
    """Return the outside modules that the flow requires, with the location of each import."""
    closure = project.closure(source.module)
    outside = closure.outside - RESERVED - set(sys.stdlib_module_names) - {"__future__"}
    found: dict[str, tuple[Source, ast.AST]] = {}
    for each in closure.sources.values():
        if outside.isdisjoint(_imported_anywhere(each)):
            continue
        for name, node in _unguarded(each.tree.body):
            if name in outside:
                found.setdefault(name, (each, node))
    return found


def _imported_anywhere(source: Source) -> Iterator[str]:
    for node in source.nodes.imports:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else node.names
        yield from (str(getattr(name, "name", name)).partition(".")[0] for name in names)


def _unguarded(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Yield the imports that run without a handler for their failure."""
    pending: list[ast.AST] = list(reversed(body))
    while pending:
        node = pending.pop()
        match node:
            case ast.Import(names=names):
                yield from ((alias.name.partition(".")[0], node) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0], node
            case ast.If(test=test) if _is_type_checking(test):
                pending += reversed(node.orelse)
            case ast.Try(handlers=handlers) if any(map(_catches_import, handlers)):
                pending += reversed([*node.finalbody, *node.orelse])
            case ast.With(items=items) if any(_suppresses(item.context_expr) for item in items):
                pass
            case _:
                pending += reversed(list(ast.iter_child_nodes(node)))


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Constant(value=False | 0):
            return True
    return False


_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def _catches_import(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(c is None or (isinstance(c, ast.Name) and c.id in _IMPORT_ERRORS) for c in caught)


def _suppresses(context: ast.expr) -> bool:
    if not isinstance(context, ast.Call):
        return False
    return any(isinstance(a, ast.Name) and a.id in _IMPORT_ERRORS for a in context.args)
