"""Decide which distributions a container needs beyond its image, from the project's own lists.

The first of these counts: the file that the setting `requirements` names, a `requirements.txt`
beside the flow or beside pyproject.toml, `[project] dependencies` of pyproject.toml. A list in
ranges gets its versions from a constraints file (`-c`) or from a lock file: uv.lock, pylock.toml,
poetry.lock or pdm.lock. Of the optional groups of pyproject.toml, a step gets those distributions
that the flow's code imports.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru.toml_files import project_file, table
from kitaru.wire import disk
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import IMPORT_NOT_IN_IMAGE, REQUIREMENT_NOT_PINNED
from kitaru_compiler.frontend.project import RESERVED, Project
from kitaru_compiler.frontend.source import Source

DEFAULT_FILE = "requirements.txt"
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+*_-]+\Z")
_LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "pdm.lock")
# Modules whose distribution has a name that does not contain theirs.
_DISTRIBUTIONS = {
    "attr": "attrs", "bs4": "beautifulsoup4", "crypto": "pycryptodome", "cv2": "opencv-python",
    "fitz": "pymupdf", "git": "gitpython", "google": "google", "pil": "pillow", "pkg-resources":
    "setuptools", "psycopg2": "psycopg2-binary", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "usb": "pyusb", "win32api": "pywin32", "zmq": "pyzmq",
}  # fmt: skip


@dataclass(frozen=True)
class _Listed:
    """One requirement: `text` without markers and comments, and where it stands."""

    text: str
    file: str
    line: int
    width: int

    @property
    def name(self) -> str:
        return _normal(re.split(r"[\[=<>!~;@ (]", self.text, maxsplit=1)[0])

    @property
    def span(self) -> Span:
        return Span(self.file, self.line, 1, self.line, self.width + 1)


@dataclass
class _Lists:
    """What the project says it needs.

    `groups` are the requirements of optional groups, `versions` what locks and constraints pin,
    `needs` the edges of a lock, `texts` the files that findings are about.
    """

    listed: list[_Listed] = field(default_factory=list)
    groups: list[_Listed] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    needs: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    of_project: bool = False


def requirements(
    project: Project, source: Source, settings: dict[str, Any]
) -> tuple[tuple[str, ...], list[Diagnostic]]:
    """Return the requirements of a flow's steps, sorted, and what is doubtful about them.

    A requirement of pyproject.toml that nothing pins is not among them, and reported if the flow
    imports it.
    """
    lists = _lists(project, settings)
    imported = _imported(project, source)
    chosen = [*lists.listed]
    for each in lists.groups:
        if any(_provides(each.name, module) for module in imported):
            chosen.append(each)
    found: list[Diagnostic] = []
    pins: dict[str, str] = {}
    for each in chosen:
        if lists.of_project and each.name in RESERVED:
            continue  # the runtime travels in the bundle
        pin = _pinned(each, lists)
        if not PINNED.match(pin):
            # A list of a whole project has more than one flow needs.
            if not lists.of_project or any(_provides(each.name, name) for name in imported):
                found.append(_unpinned(each, lists))
            if lists.of_project:
                continue
        pins.setdefault(each.name, pin)
    for name in _reached(pins, lists.needs):
        if name in lists.versions and name not in RESERVED:
            pins.setdefault(name, f"{name}=={lists.versions[name]}")
    known = {each.name for each in (*lists.listed, *lists.groups)} | lists.locked
    return tuple(sorted(pins.values())), [*found, *_missing(project, imported, known)]


def requirement_texts(project: Project, settings: dict[str, Any]) -> dict[str, str]:
    """Return the text of each list, by the name that findings call it; empty without one."""
    return _lists(project, settings).texts


def _pinned(each: _Listed, lists: _Lists) -> str:
    if PINNED.match(each.text) or each.name not in lists.versions:
        return each.text
    extras = re.search(r"\[[^\]]*\]", each.text)
    return f"{each.name}{extras[0] if extras else ''}=={lists.versions[each.name]}"


def _unpinned(each: _Listed, lists: _Lists) -> Diagnostic:
    message = f"`{each.text}` has no exact version: two runs may run different code"
    help = "pin it with =="
    if lists.of_project:
        message = f"`{each.text}` has no exact version, so no step installs it"
        help = "lock the project, for example with `uv lock`, or pin it with =="
    return Diagnostic(REQUIREMENT_NOT_PINNED, each.span, message, help=help)


def _reached(names: Iterable[str], needs: dict[str, list[str]]) -> list[str]:
    seen, pending = set[str](), list(names)
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += needs.get(name, [])
    return sorted(seen)


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
    for name in _LOCKS:
        path = folder / name
        if disk.is_file(path):
            _read_lock(path, lists)
            break
    return lists


def _read_list(path: Path, name: str, lists: _Lists, seen: set[Path]) -> None:
    if path in seen or not disk.is_file(path):
        return
    seen.add(path)
    text = disk.read_text(path, "replace")
    lists.texts[name] = text
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition(" #")[0].partition(" --hash")[0].strip().rstrip("\\").strip()
        option = re.match(r"(-r|--requirement|-c|--constraint)[ =]?\s*(\S+)", said)
        if option:
            other = path.parent / option[2]
            if option[1] in ("-r", "--requirement"):
                _read_list(other, f"{Path(name).parent / option[2]}", lists, seen)
            else:
                lists.versions |= _constraints(other)
            continue
        if not said or said.startswith(("#", "-", ".", "/")) or "://" in said:
            continue
        plain = said.partition(";")[0].strip()
        lists.listed.append(_Listed(plain, name, number, len(line)))


def _constraints(path: Path) -> dict[str, str]:
    lines = disk.read_text(path, "replace").splitlines() if disk.is_file(path) else []
    plain = (line.partition(";")[0].partition(" ")[0].strip() for line in lines)
    pairs = (line.partition("==") for line in plain if PINNED.match(line))
    return {_normal(name.partition("[")[0]): version for name, _, version in pairs}


def _read_project(path: Path, lists: _Lists, *, with_dependencies: bool) -> None:
    text = disk.read_text(path)
    lines = text.splitlines()

    def listed(said: Any) -> Iterator[_Listed]:
        for each in said if isinstance(said, list) else ():
            if isinstance(each, str):
                at = next((n for n, line in enumerate(lines, 1) if each in line), 1)
                plain = each.partition(";")[0].strip().replace(" ", "")
                yield _Listed(plain, path.name, at, len(lines[at - 1]) if lines else 0)

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


def _read_lock(path: Path, lists: _Lists) -> None:
    try:
        document = tomllib.loads(disk.read_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return  # the tool that wrote it says what is wrong
    packages = [p for p in _tables(document, "package") if "name" in p]
    packages += [p for p in _tables(document, "packages") if "name" in p]
    versions: dict[str, set[str]] = {}
    for package in packages:
        name = _normal(str(package["name"]))
        source = package.get("source", {})
        if isinstance(source, dict) and {"virtual", "editable", "directory"} & source.keys():
            continue  # the project itself, or a member of its workspace
        versions.setdefault(name, set()).add(str(package.get("version", "")))
        lists.needs.setdefault(name, []).extend(_needs(package.get("dependencies", [])))
    lists.locked = frozenset(versions)
    # Of a distribution with several versions only a marker says which one counts.
    sure = {name: next(iter(found)) for name, found in versions.items() if len(found) == 1}
    lists.versions = {name: v for name, v in sure.items() if v} | lists.versions


def _tables(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name, [])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _needs(dependencies: Any) -> Iterator[str]:
    """Yield what a locked distribution needs on every platform, as the four formats write it."""
    if isinstance(dependencies, dict):
        for name, said in dependencies.items():
            plain = not isinstance(said, dict) or not {"markers", "optional"} & said.keys()
            if plain and not isinstance(said, list):
                yield _normal(name)
        return
    for each in dependencies if isinstance(dependencies, list) else ():
        if isinstance(each, str) and ";" not in each:
            yield _normal(re.split(r"[\[=<>!~ (]", each, maxsplit=1)[0])
        elif isinstance(each, dict) and "name" in each and "marker" not in each:
            yield _normal(str(each["name"]))


def _missing(
    project: Project, imported: dict[str, tuple[Source, ast.AST]], known: set[str]
) -> Iterator[Diagnostic]:
    """Warn of imports that nothing provides; a module may differ a little from its distribution."""
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
    """Return the folder above the import root that has a package `name`, up to pyproject.toml."""
    start = project_file(project.root)
    for folder in project.root.parents:
        if start is None or not folder.is_relative_to(start.parent):
            return None
        if disk.is_dir(folder / name) or disk.is_file(folder / f"{name}.py"):
            return folder
    return None


def _provides(distribution: str, module: str) -> bool:
    name = _DISTRIBUTIONS.get(_normal(module), _normal(module))
    return name in distribution or distribution in name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(project: Project, source: Source) -> dict[str, tuple[Source, ast.AST]]:
    """Return the outside modules that the flow cannot do without, and where each is imported."""
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
    """Yield the imports that run, and whose failure nothing catches."""
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
