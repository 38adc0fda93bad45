"""Evaluate path expressions of the source without running them.

`Path(__file__).parent / "prompts" / f"{name}.md"` refers to files next to the module. The compiler
must know them, because a container has only the files in the bundle. An expression is followed
through variables that are assigned once, functions of `pathlib`, `os.path` and
`importlib.resources`, and imports of other project modules. Parts known only at run time become
wildcards:

    HERE = Path(__file__).parent                     # /proj/flows
    HERE / "prompts" / f"{name}.md"                  # /proj/flows/prompts/*.md
    resources.files("pkg") / "data" / "a.json"       # /proj/pkg/data/a.json
    open("data.json")                                # data.json, in the working directory
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.walk import children

# Stands for any text without a slash in a path.
WILD = "\0"
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_BINDS_NOTHING = (ast.Constant, ast.Lambda, ast.Import, ast.ImportFrom)
# Methods and functions that return an equivalent path for the purposes of a bundle.
_SAME = frozenset({"resolve", "absolute", "as_posix", "__fspath__", "expanduser"})
_SAME_FUNCTIONS = frozenset({
    "os.path.abspath", "os.path.realpath", "os.path.normpath", "os.path.expanduser", "os.fspath",
    "str", "importlib.resources.as_file", "pathlib.Path.resolve",
})  # fmt: skip
_PATHS = frozenset({"pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath"})
BEGINNINGS = frozenset({"__file__", "__name__", "__package__"})
# Functions that create a path from other values.
PATH_FUNCTIONS = frozenset({*_PATHS, "os.getcwd", "pkgutil.get_data", "importlib.resources"})
_RESOURCES = frozenset({
    "open_text", "open_binary", "read_text", "read_binary", "path", "is_resource", "contents",
})  # fmt: skip


class Located(Struct):
    """A path: absolute if it starts at a project file, otherwise relative to the cwd (`in_cwd`)."""

    path: str
    in_cwd: bool = False

    def join(self, text: str) -> Located | None:
        """Return the path below this one; None for an absolute `text`."""
        if text.startswith("/"):
            return None
        return replace(self, path=posixpath.normpath(posixpath.join(self.path, text)))

    @property
    def parent(self) -> Located:
        return replace(self, path=posixpath.dirname(self.path))


class Text(Struct):
    """A string; `WILD` stands for the parts known only at run time."""

    text: str


Value = Located | Text | None


@dataclass
class Scope:
    """The variables of a function or a module: the value of each variable that is assigned once."""

    source: Source
    values: dict[str, ast.expr | None]
    outer: Scope | None = None
    used: set[str] = field(default_factory=set)

    def find(self, name: str) -> tuple[Scope, ast.expr | None] | None:
        """Return the scope that binds `name`, and its value, None if known only at run time."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope, scope.values[name]
            scope = scope.outer
        return None


@dataclass
class Paths:
    """Evaluates expressions in the files of one project.

    `find` returns the source of a module, `folder_of` the folder of a package of the project.
    """

    find: Callable[[str], Source | None]
    folder_of: Callable[[str], Path | None]
    file_of: Callable[[Source], Path]
    _modules: dict[str, Scope] = field(default_factory=dict)
    _imports: dict[str, dict[str, str]] = field(default_factory=dict)
    _busy: set[int] = field(default_factory=set)
    # By the id of the expression, which is stored here so that its id is not reused.
    _values: dict[int, tuple[ast.expr, Scope, Value]] = field(default_factory=dict)
    _circles: int = 0

    def module(self, source: Source) -> Scope:
        """Return the module scope of a file."""
        if source.file not in self._modules:
            self._modules[source.file] = Scope(source, assigned_once(source.tree.body))
        return self._modules[source.file]

    def dotted(self, node: ast.expr, source: Source) -> str:
        """Return the absolute name of a name or attribute chain, empty if it has none."""
        match node:
            case ast.Name(id=name):
                return self.imports(source).get(name, name)
            case ast.Attribute(value=value, attr=attr):
                root = self.dotted(value, source)
                return f"{root}.{attr}" if root else ""
        return ""

    def imports(self, source: Source) -> dict[str, str]:
        """Return the absolute name of each imported binding of a file."""
        if source.file not in self._imports:
            self._imports[source.file] = dict(_imported(source))
        return self._imports[source.file]

    def imports_of_project(self, source: Source) -> list[str]:
        """Return the names that a file may import from modules of the project."""
        roots = {name: whole.partition(".")[0] for name, whole in self.imports(source).items()}
        return [name for name, root in roots.items() if self.find(root) or self.folder_of(root)]

    def value(self, node: ast.expr, scope: Scope) -> Value:
        """Return the value of a path or string expression, None if it is unknown."""
        if id(node) in self._busy:
            self._circles += 1
            return None
        known = self._values.get(id(node))
        if known is not None and known[1] is scope:
            return known[2]
        circles = self._circles
        self._busy.add(id(node))
        try:
            found = self._value(node, scope)
        finally:
            self._busy.discard(id(node))
        # A value cut short by a cycle may be more precise if the cycle is entered elsewhere.
        if circles == self._circles:
            self._values[id(node)] = (node, scope, found)
        return found

    def _value(self, node: ast.expr, scope: Scope) -> Value:
        match node:
            case ast.Constant(value=str(text)):
                return Text(text)
            case ast.JoinedStr(values=parts):
                return Text("".join(self._part(part, scope) for part in parts))
            case ast.FormattedValue(value=value):
                return self.value(value, scope)
            case ast.Name(id="__file__"):
                return Located(self.file_of(scope.source).as_posix())
            case ast.Name(id="__name__"):
                return Text(scope.source.module)
            case ast.Name(id="__package__"):
                return Text(_package(scope.source))
            case ast.Name():
                return self._variable(node, scope)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._join(self.value(left, scope), [self._known(right, scope)])
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._added(self.value(left, scope), self._known(right, scope))
            case ast.Attribute(value=value, attr="parent"):
                inner = self.value(value, scope)
                return inner.parent if isinstance(inner, Located) else None
            case ast.Attribute(value=ast.Name() as name, attr="__path__"):
                return self._package_folder(self.dotted(name, scope.source))
            case ast.Attribute():
                return self._attribute(node, scope)
            case ast.Subscript(
                value=ast.Attribute(value=value, attr="parents"),
                slice=ast.Constant(value=int(depth)),
            ):
                found = self.value(value, scope)
                for _ in range(depth + 1):
                    found = found.parent if isinstance(found, Located) else None
                return found
            case ast.Call():
                return self._call(node, scope)
        return None

    def _part(self, part: ast.expr, scope: Scope) -> str:
        found = self.value(part, scope)
        return WILD if found is None else found.text if isinstance(found, Text) else found.path

    def _known(self, node: ast.expr, scope: Scope) -> Value:
        """Return the value of a part appended to a path: any text if it is unknown."""
        return self.value(node, scope) or Text(WILD)

    def _variable(self, node: ast.Name, scope: Scope) -> Value:
        found = scope.find(node.id)
        if found is not None:
            home, value = found
            result = self.value(value, home) if value is not None else None
            if result is not None:
                home.used.add(node.id)
            return result
        return self._of_module(self.dotted(node, scope.source), scope)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        return self._of_module(self.dotted(node, scope.source), scope)

    def _of_module(self, dotted: str, scope: Scope) -> Value:
        """Return the value of a variable of another module of the project."""
        module, _, name = dotted.rpartition(".")
        source = self.find(module) if module else None
        if source is None or source.file == scope.source.file:
            return None
        other = self.module(source)
        value = other.values.get(name)
        if value is None:
            # The module may have imported the name itself.
            further = self.dotted(ast.Name(name), source)
            return self._of_module(further, other) if further != name else None
        result = self.value(value, other)
        if result is not None:
            other.used.add(name)
        return result

    def _package_folder(self, module: str) -> Value:
        folder = self.folder_of(module)
        return Located(folder.as_posix()) if folder else None

    def _call(self, node: ast.Call, scope: Scope) -> Value:
        name = self.dotted(node.func, scope.source)
        if name in _PATHS or name == "os.path.join":
            return self._joined(name, node, scope)
        if name in _SAME_FUNCTIONS and node.args:
            return self.value(node.args[0], scope)
        if name in ("pathlib.Path.cwd", "os.getcwd"):
            return Located(".", in_cwd=True)
        if name == "os.path.dirname" and node.args:
            inner = self.value(node.args[0], scope)
            return inner.parent if isinstance(inner, Located) else None
        if name.startswith("importlib.resources.") or name == "pkgutil.get_data":
            return self._resource(name.rpartition(".")[2], node, scope)
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, node.args, scope)
        return None

    def _joined(self, name: str, node: ast.Call, scope: Scope) -> Value:
        values = [self._known(argument, scope) for argument in node.args]
        if not values:
            return Located(".", in_cwd=True) if name in _PATHS else None
        first = values[0]
        if isinstance(first, Text):
            if name == "os.path.join" and len(values) > 1:
                texts = [v.text if isinstance(v, Text) else WILD for v in values]
                return Text(posixpath.join(*texts))
            # A relative path that starts with a string is below the working directory.
            if first.text.startswith((WILD, "/")):
                return None
            first = Located(posixpath.normpath(first.text), in_cwd=True)
        return self._join(first, values[1:])

    def _resource(self, function: str, node: ast.Call, scope: Scope) -> Value:
        package: Value = Text(_package(scope.source))
        if node.args:
            package = self.value(node.args[0], scope)
            if package is None:
                package = Text(self.dotted(node.args[0], scope.source))
        if not isinstance(package, Text) or WILD in package.text:
            return None
        source = self.find(package.text)
        named = _package(source) if source else package.text
        folder = self._package_folder(named)
        if function == "files":
            return folder
        if function in {*_RESOURCES, "get_data"}:
            return self._join(folder, [self._known(a, scope) for a in node.args[1:2]])
        return None

    def _method(self, func: ast.Attribute, args: list[ast.expr], scope: Scope) -> Value:
        inner = self.value(func.value, scope)
        if not isinstance(inner, Located):
            return None
        if func.attr in _SAME:
            return inner
        if func.attr == "joinpath":
            return self._join(inner, [self._known(argument, scope) for argument in args])
        if func.attr == "with_name" and args:
            return self._join(inner.parent, [self._known(args[0], scope)])
        if func.attr == "with_suffix" and args:
            suffix = self._known(args[0], scope)
            stem = posixpath.splitext(inner.path)[0]
            return replace(inner, path=stem + suffix.text) if isinstance(suffix, Text) else None
        return None

    def _join(self, start: Value, parts: list[Value]) -> Value:
        found = start
        for part in parts:
            if not isinstance(found, Located) or not isinstance(part, Text):
                return None
            found = found.join(part.text)
        return found

    def _added(self, left: Value, right: Value) -> Value:
        if not isinstance(right, Text) or (left is None and right.text == WILD):
            return None
        left = left or Text(WILD)
        if isinstance(left, Text):
            return Text(left.text + right.text)
        return replace(left, path=posixpath.normpath(left.path + right.text))


def assigned_once(body: list[ast.stmt]) -> dict[str, ast.expr | None]:
    """Return the value of each bound name; None for a name that is bound twice."""
    found: dict[str, ast.expr | None] = {}
    for name, value in _bindings(body):
        found[name] = None if name in found else value
    return found


def scope_of(function: Function, outer: Scope) -> Scope:
    """Return the scope of a function's body; its parameters have no known values."""
    body = function.body if isinstance(function.body, list) else []
    values = assigned_once(body)
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    return Scope(outer.source, values | {argument.arg: None for argument in named}, outer)


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names that statements bind, without those in nested functions and classes."""
    pending: list[ast.AST] = list(reversed(body))
    while pending:
        node = pending.pop()
        if isinstance(node, _BINDS_NOTHING):
            continue
        match node:
            case ast.Name(id=name):
                if not isinstance(node.ctx, ast.Load):
                    yield name, None
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
                pending.append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
                pending.append(value)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, None
            case _:
                pending += reversed(children(node))


def _imported(source: Source) -> Iterator[tuple[str, str]]:
    for node in source.nodes.imports:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    whole = alias.name if alias.asname else alias.name.partition(".")[0]
                    yield alias.asname or whole, whole
            case ast.ImportFrom(module=module, names=names, level=level):
                base = module or ""
                if level:
                    package = _package(source).split(".")
                    kept = package[: len(package) - level + 1]
                    base = ".".join([*kept, base] if base else kept)
                for alias in names:
                    yield alias.asname or alias.name, f"{base}.{alias.name}"


def _package(source: Source) -> str:
    if source.file.endswith("__init__.py"):
        return source.module
    return source.module.rpartition(".")[0]
