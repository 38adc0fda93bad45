"""Find the files and modules that a project's source refers to other than by `import`.

Every path that starts at `__file__`, at a package's resources, or (if such a file exists) at the
working directory counts as a reference, regardless of its use: `FileSystemLoader(HERE)` reads a
folder as `open` reads a file. A reference is a hint for the bundle and never a fact about the flow.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from kitaru.wire import disk
from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.paths import (
    BEGINNINGS,
    PATH_FUNCTIONS,
    WILD,
    Function,
    Located,
    Paths,
    Scope,
    Text,
    Value,
    scope_of,
)
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.walk import children

Kind = Literal[
    "path", "glob", "pattern", "rglob", "list", "write", "root", "module", "modules",
    "unknown module",
]  # fmt: skip
# Methods and functions that list the direct content of a folder.
_LISTS = frozenset({"iterdir"})
_LIST_FUNCTIONS = frozenset({"os.listdir", "os.scandir"})
_WALK_FUNCTIONS = frozenset({
    "os.walk", "pkgutil.iter_modules", "pkgutil.walk_packages", "shutil.copytree",
})  # fmt: skip
_GLOB_FUNCTIONS = frozenset({"glob.glob", "glob.iglob"})
_IMPORTS = frozenset({"importlib.import_module", "__import__"})
_ADD_ROOT = frozenset({"sys.path.insert", "sys.path.append", "site.addsitedir"})
# Folders created by tools, which contain no files of the project.
TOOLS = frozenset({
    ".git", ".hg", ".svn", ".kitaru", ".venv", "__pycache__", "node_modules", ".tox", ".nox",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".idea", ".vscode",
})  # fmt: skip
# Calls that display a string and read nothing.
_SHOW = frozenset({"print", "debug", "info", "warning", "error", "exception", "log", "write_text"})
_READS = frozenset({"read_text", "read_bytes"})
# Modules and builtins that return paths.
_ROOTS = frozenset(
    name.partition(".")[0]
    for name in (
        *_LIST_FUNCTIONS, *_WALK_FUNCTIONS, *_GLOB_FUNCTIONS, *_IMPORTS, *_ADD_ROOT,
        *PATH_FUNCTIONS, "open", "io.open",
    )
)  # fmt: skip
# Expressions that `Paths.value` may evaluate to a path.
_MAYBE_LOCATED = (
    ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.Subscript, ast.FormattedValue,
)  # fmt: skip


class Reference(Struct):
    """A reference; `path` is absolute, or relative to the working directory if `in_cwd`.

    `pattern` is the glob below the path. `module` is the absolute name, or name pattern, of modules
    that a dynamic import loads. `reads` is true if the file is certainly read. `first` is true if
    an import root precedes the others.
    """

    kind: Kind
    source: Source
    node: ast.AST
    path: str = ""
    in_cwd: bool = False
    pattern: str = ""
    module: str = ""
    reads: bool = False
    first: bool = False


# Maximum length of a file name in bytes, as in file systems.
LONGEST_NAME = 255


def references(source: Source, paths: Paths) -> list[Reference]:
    """Return the references of one file, in source order.

    A variable that contains only a path is followed to its uses: in `DATA = HERE / "data"` and
    `open(DATA / "a.json")`, only that file is the reference.
    """
    finder = _Finder(source, paths)
    if not finder.live:
        return []
    module = paths.module(source)
    finder.visit(source.tree, module)
    for name, value in module.values.items():
        if value is not None and name not in module.used:
            finder.located(value, paths.value(value, module))
    return finder.found


def _live(source: Source, paths: Paths) -> set[ast.AST]:
    """Return the nodes that may contain a reference: the ancestors of possible starts of paths.

    A path starts at `__file__`, at a module that returns paths, at a name imported from the
    project, or at a string with a dot. It also starts at a variable whose value contains one of
    these.
    """
    nodes, parents = source.nodes, source.nodes.parents
    live: set[ast.AST] = set()
    named: dict[str, list[ast.Name]] = {}
    for name in nodes.of(ast.Name):
        named.setdefault(name.id, []).append(name)

    def mark(found: Iterable[ast.AST]) -> None:
        for node in found:
            around: ast.AST | None = node
            while around is not None and around not in live:
                live.add(around)
                around = parents.get(around)

    def mark_names(ids: Iterable[str]) -> None:
        mark(name for each in ids for name in named.get(each, ()))

    mark_names([*BEGINNINGS, *_ROOTS, *paths.imports_of_project(source)])
    mark_names(name for name, whole in paths.imports(source).items() if _root(whole) in _ROOTS)
    mark(attribute for attribute in nodes.of(ast.Attribute) if attribute.attr == "__path__")
    texts = (c for c in nodes.of(ast.Constant) if isinstance(c.value, str) and "." in c.value)
    mark(text for text in texts if not isinstance(parents.get(text), ast.Expr))
    variables = [*_variables(source)]
    while held := {name for name, value in variables if value in live}:
        mark_names(held)
        variables = [(name, value) for name, value in variables if name not in held]
    return live


def _variables(source: Source) -> Iterator[tuple[str, ast.expr]]:
    for assign in source.nodes.of(ast.Assign):
        if len(assign.targets) == 1 and isinstance(assign.targets[0], ast.Name):
            yield assign.targets[0].id, assign.value
    for annotated in source.nodes.of(ast.AnnAssign):
        if isinstance(annotated.target, ast.Name) and annotated.value is not None:
            yield annotated.target.id, annotated.value


def _root(dotted: str) -> str:
    return dotted.partition(".")[0]


class _Finder:
    def __init__(self, source: Source, paths: Paths) -> None:
        self._source = source
        self._paths = paths
        self._file = paths.file_of(source).as_posix()
        self.found: list[Reference] = []
        self.live = _live(source, paths)

    def visit(self, node: ast.AST, scope: Scope) -> None:
        """Find the references in a node; the largest expression that is a path counts."""
        if node not in self.live:
            return
        if isinstance(node, ast.expr) and self._expression(node, scope):
            return
        if isinstance(node, Function):
            self._function(node, scope)
            return
        held = self._held(node, scope)
        for child in children(node):
            if child is not held:
                self.visit(child, scope)

    def _function(self, node: Function, scope: Scope) -> None:
        for part in (*node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part, scope)
        for decorator in getattr(node, "decorator_list", ()):
            self.visit(decorator, scope)
        inner = scope_of(node, scope)
        for stmt in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(stmt, inner)
        for name, value in inner.values.items():
            if value is not None and name not in inner.used:
                self.located(value, self._paths.value(value, inner))

    def _held(self, node: ast.AST, scope: Scope) -> ast.expr | None:
        """Return the value of an assignment whose variable is followed to its uses."""
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                return None
        if scope.values.get(name) is not value:
            return None
        return value if isinstance(self._paths.value(value, scope), Located) else None

    def _expression(self, node: ast.expr, scope: Scope) -> bool:
        """Record the references of an expression; return whether its children need no visit."""
        if isinstance(node, ast.Call) and self._call(node, scope):
            return True
        if not isinstance(node, _MAYBE_LOCATED):
            return False
        if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            return False
        return self.located(node, self._paths.value(node, scope))

    def located(self, node: ast.expr, value: Value, *, reads: bool = False) -> bool:
        if not isinstance(value, Located):
            return False
        if not self._contains_itself(value):
            self._add("path", node, value, reads=reads)
        return True

    def _contains_itself(self, value: Located) -> bool:
        """Return whether a path is the module's own file or a folder above it."""
        return not value.in_cwd and f"{self._file}/".startswith(f"{value.path}/")

    def _add(
        self,
        kind: Kind,
        node: ast.AST,
        at: Located,
        pattern: str = "",
        *,
        reads: bool = False,
        first: bool = False,
    ) -> None:
        self.found.append(
            Reference(
                kind,
                self._source,
                node,
                at.path,
                at.in_cwd,
                pattern=pattern,
                reads=reads,
                first=first,
            )
        )

    def _call(self, node: ast.Call, scope: Scope) -> bool:
        name = self._paths.dotted(node.func, self._source)
        if name in _ADD_ROOT:
            return self._root(node, scope, first=name == "sys.path.insert")
        if name in _IMPORTS:
            self._import(node, scope)
            return False
        if name == "open" or name == "io.open":
            return self._open(node, scope)
        if name in _LIST_FUNCTIONS | _WALK_FUNCTIONS | _GLOB_FUNCTIONS:
            return self._listed(name, node, scope)
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, node, scope)
        self._texts(name, node, scope)
        return False

    def _root(self, node: ast.Call, scope: Scope, *, first: bool) -> bool:
        value = self._path(node.args[-1], scope) if node.args else None
        if isinstance(value, Located) and WILD not in value.path:
            self._add("root", node, value, first=first)
        return True

    def _import(self, node: ast.Call, scope: Scope) -> None:
        value = self._paths.value(node.args[0], scope) if node.args else None
        name = value.text if isinstance(value, Text) else ""
        if name.startswith("."):
            packages = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "package")]
            package = self._paths.value(packages[0], scope) if packages else None
            name = f"{package.text}{name}" if isinstance(package, Text) else ""
        kind: Kind = "module" if name and not name.startswith(WILD) else "unknown module"
        self.found.append(Reference(kind, self._source, node, module=name))

    def _open(self, node: ast.Call, scope: Scope) -> bool:
        modes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
        mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "r"
        if not modes or (isinstance(mode, str) and not set(mode) & set("wax")):
            value = self._path(node.args[0], scope) if node.args else None
            return self.located(node.args[0], value, reads=True) if node.args else False
        return bool(node.args) and self._written(node, self._path(node.args[0], scope))

    def _listed(self, name: str, node: ast.Call, scope: Scope) -> bool:
        if not node.args:
            return False
        argument = node.args[0]
        parts = argument.elts if isinstance(argument, ast.List | ast.Tuple) else [argument]
        for part in parts:
            value = self._path(part, scope)
            if not isinstance(value, Located):
                self.visit(part, scope)
            elif name in _GLOB_FUNCTIONS:
                self._add("pattern", node, value)
            elif name.startswith("pkgutil."):
                self._add("modules", node, value)
            else:
                self._add("list" if name in _LIST_FUNCTIONS else "rglob", node, value, "*")
        return True

    def _method(self, func: ast.Attribute, node: ast.Call, scope: Scope) -> bool:
        at = self._paths.value(func.value, scope)
        if not isinstance(at, Located):
            self._texts(func.attr, node, scope)
            return False
        if func.attr in ("glob", "rglob") and node.args:
            pattern = self._paths.value(node.args[0], scope)
            text = pattern.text if isinstance(pattern, Text) else WILD
            self._add("glob" if func.attr == "glob" else "rglob", node, at, text)
            return True
        if func.attr in _LISTS:
            self._add("list", node, at, "*")
            return True
        if func.attr == "walk":
            self._add("rglob", node, at, "*")
            return True
        if func.attr == "open":
            mode = node.args[0] if node.args else None
            if isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax"):
                return self._written(node, at)
        if func.attr in ("write_text", "write_bytes", "mkdir", "touch", "unlink"):
            return self._written(node, at)
        if func.attr in _READS or func.attr == "open":
            return self.located(node, at, reads=True)
        return False

    def _written(self, node: ast.AST, value: Value) -> bool:
        """Record paths that the code writes, which are not files of the project."""
        if isinstance(value, Located):
            self._add("write", node, value)
        return isinstance(value, Located)

    def _texts(self, name: str, node: ast.Call, scope: Scope) -> None:
        """Record strings that name an existing file; arguments of `_SHOW` do not count."""
        if name.rpartition(".")[2] in _SHOW or not node.args:
            return
        value = self._path(node.args[0], scope)
        if isinstance(value, Located) and value.in_cwd and "." in value.path.rpartition("/")[2]:
            self._add("path", node.args[0], value)

    def _path(self, node: ast.expr, scope: Scope) -> Value:
        """Return the path of an argument; a string that names a file also counts."""
        value = self._paths.value(node, scope)
        if isinstance(value, Text):
            if not value.text or value.text.startswith(("/", WILD)) or "\n" in value.text:
                return None
            return Located(value.text, in_cwd=True)
        return value


def matched(reference: Reference, base: Path) -> Iterator[Path]:
    """Yield the existing files that a reference names, with `base` as the working directory.

    The files in referenced folders are included.
    """
    if reference.kind in ("write", "root", "module", "unknown module"):
        return
    where = base / reference.path if reference.in_cwd else Path(reference.path)
    # A string that is too long for a file name, such as a regular expression, refers to no file.
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in where.parts):
        return
    if reference.kind == "pattern":
        # The path itself is a pattern, as for `glob.glob`.
        fixed = re.split(r"[*?\[\0]", str(where), maxsplit=1)[0].rpartition("/")[0]
        yield from _globbed(Path(fixed), str(where)[len(fixed) + 1 :])
        return
    starts = [where]
    if WILD in reference.path:
        starts = list(_wild(reference.path, base))
    for start in starts:
        match reference.kind:
            case "glob":
                found = _globbed(start, reference.pattern)
            case "list":
                found = _globbed(start, "*")
            case "rglob":
                found = _globbed(start, f"**/{reference.pattern}")
            case "modules":
                found = _globbed(start, "**/*.py")
            case _ if disk.is_dir(start) and WILD not in reference.path:
                found = _globbed(start, "**/*")
            case _:
                found = iter([start] if disk.is_file(start) else [])
        yield from found


def _wild(path: str, base: Path) -> Iterator[Path]:
    """Yield the files that match a path with wildcards; a fully unknown part matches no folder."""
    fixed, _, rest = path.partition(WILD)
    folder = base / fixed.rpartition("/")[0]
    pattern = _escaped(fixed.rpartition("/")[2] + WILD + rest)
    yield from _globbed(folder, pattern)


def _escaped(text: str) -> str:
    # Only the wildcards for unknown text are pattern characters; escape all others.
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in text)
    return escaped.replace(WILD, "*")


def _globbed(folder: Path, pattern: str) -> Iterator[Path]:
    parts = pattern.replace(WILD, "*").strip("/")
    if parts.startswith("**/") and "**" not in parts[3:]:
        last = PurePosixPath(parts[3:])
        yield from (path for path in below(folder) if path.match(last.as_posix()))
        return
    yield from disk.glob(folder, parts)


def below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order, without those of tools and builds."""
    for here, folders, files in disk.walk(folder):
        folders[:] = [name for name in folders if not _is_of_tools(here / name)]
        yield from (here / name for name in files)


def _is_of_tools(folder: Path) -> bool:
    if folder.name in TOOLS or folder.name.endswith((".egg-info", ".dist-info")):
        return True
    # A virtual environment, or the output of `kitaru compile`.
    return any(disk.is_file(folder / name) for name in ("pyvenv.cfg", "sourcemap.json"))


def files_named(folder: Path, patterns: list[str]) -> Iterator[Path]:
    """Yield the files below `folder` that match patterns in the syntax of .gitignore."""
    if not patterns:
        return
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(patterns)
    for path in below(folder):
        if spec.match_file(path.relative_to(folder).as_posix()):
            yield path
