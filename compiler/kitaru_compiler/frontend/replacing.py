"""Find names that the project's code replaces without a visible assignment of the name.

Constants are unrolled, helpers inlined and methods followed only if their source applies whenever
the flow runs. Code may replace each of them through a computed name:

    globals().update(settings)                  # any name of the module
    setattr(sys.modules[__name__], key, value)  # any name of any module
    setattr(self, key, value)                   # any attribute of an object: methods, no constants
    mock.patch.object(Agent, "ask").start()     # the name "ask", of whatever object

`Replacing` summarises the whole project, because one line anywhere is sufficient. A computed name
on an object of the code's own (`self`, `cls`, a local bound once to a new object of a class) can be
a method, but never a name of a module. A literal name makes only that name uncertain. Reading
(`globals()["x"]`, `name in vars(m)`, `{**globals()}`) replaces nothing.

Three ways to replace a name are not detected: by compiled code, by `eval` of computed text, and by
a library that receives the module itself.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.names import dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import bound_in, bound_names

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
# The locals of a function that are certainly objects of a class, created there.
Objects = Callable[[Source, Function], frozenset[str]]
# Resolves a dotted name to an absolute name: of the project, or `unittest.mock.patch`.
Resolve = Callable[[Source, ast.expr], str]

_SETTERS = {"setattr": 3, "delattr": 2, "__setattr__": 3, "__delattr__": 2}
# Attributes that contain the namespaces of functions, frames and modules.
_SPACES = frozenset({"f_globals", "f_locals", "f_builtins", "__globals__", "__dict__"})
_NAMESPACES = frozenset({"globals", "vars", "locals"})
# Attributes that change an object completely without changing its own names or attributes.
_IDENTITY = frozenset({"__class__", "__bases__", "__dict__"})
_FUNCTION = frozenset({"__code__", "__defaults__", "__kwdefaults__"})
_READS = frozenset({"get", "items", "keys", "values", "copy", "__contains__", "__getitem__"})
_WRITES = frozenset({"pop", "setdefault", "__setitem__", "__delitem__"})
# These inspect a namespace that they receive, and store no reference to it.
_LOOKERS = frozenset({
    "all", "any", "bool", "dict", "enumerate", "eval", "filter", "frozenset", "id", "isinstance",
    "iter", "len", "list", "max", "min", "print", "repr", "set", "sorted", "str", "tuple", "type",
    "zip",
})  # fmt: skip
_COPIERS = frozenset({
    "copy", "deepcopy", "dump", "dumps", "extend", "format_map", "pformat", "pprint", "update",
})  # fmt: skip
_HIDDEN = frozenset({*_SETTERS, *_SPACES, *_NAMESPACES})
# The nodes to inspect, by their names.
_CALLS = frozenset({*_SETTERS, *_NAMESPACES, "getattr", "exec"})
_ATTRIBUTES = frozenset({*_SETTERS, *_SPACES})
_NAMES = frozenset({"__builtins__", "setattr", "delattr", "globals", "vars"})


@dataclass
class Replacing:
    """The replacements in a project; `anything` and `methods` are the first locations, or empty."""

    anything: str = ""
    methods: str = ""
    named: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(sources: Iterable[Source], objects: Objects, resolve: Resolve) -> Replacing:
        """Return the replacements in the code of these modules."""
        found, read = Replacing(), tuple(sources)
        mentioned = frozenset().union(*(source.nodes.identifiers for source in read))
        for source in read:
            _Reader(source, found, objects, resolve, mentioned).read()
        return found

    def name(self, name: str) -> str:
        """Return where a name of a module may be replaced, an empty string if it is not."""
        return self.anything or self.named.get(name, "")

    def method(self, name: str) -> str:
        """Return where a method with that name may be replaced, an empty string if it is not."""
        return self.name(name) or self.methods or self.attributes.get(name, "")


class _Place(Struct):
    """The context of a node: the kind of its scope and its two nearest ancestors.

    `own` are the names of the scope's own objects, `hidden` the names that are not builtins.
    """

    scope: str = "module"
    own: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    parent: ast.AST | None = None
    above: ast.AST | None = None


@dataclass
class _Reader:
    source: Source
    found: Replacing
    objects: Objects
    resolve: Resolve
    mentioned: frozenset[str]
    _inner: dict[ast.AST, _Place] = field(default_factory=dict)

    def read(self) -> None:
        """Inspect the nodes that may replace a name, each in its context."""
        suspects = sorted(self._suspects(), key=lambda node: (node.lineno, node.col_offset))
        for node in suspects:
            parent = self.source.nodes.parents[node]
            above = self.source.nodes.parents.get(parent)
            self._look(node, replace(self._scope_at(parent), parent=parent, above=above))

    def _suspects(self) -> Iterator[ast.expr]:
        """Yield the nodes that `_look` inspects, without most of the harmless ones.

        An import of the project may give `reload` or `patch` another name, under which it is
        called.
        """
        nodes = self.source.nodes
        aliased = not self.mentioned.isdisjoint(("reload", "patch"))
        modules = "modules" in self.mentioned
        for call in nodes.of(ast.Call):
            function = call.func
            name = getattr(function, "id", "") or getattr(function, "attr", "")
            if aliased or name in _CALLS or (modules and isinstance(function, ast.Attribute)):
                yield call
        for attribute in nodes.of(ast.Attribute):
            if not isinstance(attribute.ctx, ast.Load) or attribute.attr in _ATTRIBUTES:
                yield attribute
        yield from (name for name in nodes.of(ast.Name) if name.id in _NAMES)
        if modules:
            yield from nodes.of(ast.Subscript)

    def _scope_at(self, node: ast.AST) -> _Place:
        """Return the scope of the children of a node."""
        around: ast.AST | None = node
        while around is not None and not isinstance(around, Scope):
            around = self.source.nodes.parents.get(around)
        if around is None:
            return _Place()
        if around not in self._inner:
            outer = self._scope_at(self.source.nodes.parents[around])
            self._inner[around] = self._inside(around, outer)
        return self._inner[around]

    def _inside(self, node: ast.AST, place: _Place) -> _Place:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                bound = bound_in(node)
                own = self.objects(self.source, node)
                static = any(dotted_name(d) == "staticmethod" for d in node.decorator_list)
                first = [*node.args.posonlyargs, *node.args.args][:1]
                if place.scope == "class" and first and not static:
                    rebound = set().union(*map(bound_names, node.body))
                    own |= {first[0].arg} - rebound
                return _Place("function", (place.own - bound) | own, place.hidden | bound)
            case ast.ClassDef():
                return _Place("class", place.own, place.hidden)
            case ast.Lambda() if place.scope != "function":
                return _Place("function", place.own, place.hidden)
        return place

    def _look(self, node: ast.AST, place: _Place) -> None:
        match node:
            case ast.Call():
                self._call(node, place)
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                self._assigned(node, place)
            case ast.Attribute(attr=attr, value=value) if attr in _SPACES:
                self._space(node, place, self._is_own(value, place))
            case ast.Attribute(attr=attr) if attr in _SETTERS and not _is_callee(node, place):
                self._made_up(node, f"`{attr}`", False)
            case ast.Name(id=name, ctx=ast.Load()) if name not in place.hidden:
                self._mentioned(node, name, place)
            case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
                if self._means(value, "sys.modules"):
                    self._made_up(node, "`sys.modules`", False)

    def _mentioned(self, node: ast.Name, name: str, place: _Place) -> None:
        if name == "__builtins__":
            self._space(node, place, False)
        elif name in _NAMES and not _is_callee(node, place):
            self._made_up(node, f"`{name}`", False)

    def _call(self, node: ast.Call, place: _Place) -> None:
        name = dotted_name(node.func).rpartition(".")[2] or getattr(node.func, "attr", "")
        plain = isinstance(node.func, ast.Name) and name not in place.hidden
        if name in _SETTERS and (plain or isinstance(node.func, ast.Attribute)):
            self._setter(node, name, place)
        elif plain and name in _NAMESPACES:
            self._namespace(node, name, place)
        elif plain and name == "getattr":
            match node.args:
                case [_, ast.Constant(value=value), *_] if value in _HIDDEN:
                    self._made_up(node, f'`getattr(…, "{value}")`', False)
        elif plain and name == "exec" and len(node.args) + len(node.keywords) < 2:
            self._made_up(node, "`exec`", False)
        elif self._means(node.func, "importlib.reload"):
            self._made_up(node, "`importlib.reload`", False)
        elif isinstance(node.func, ast.Attribute) and self._means(node.func.value, "sys.modules"):
            if name not in _READS:
                self._made_up(node, "`sys.modules`", False)
        elif kind := self._patch(node.func):
            self._patched(node, kind)

    def _namespace(self, node: ast.Call, name: str, place: _Place) -> None:
        own = False
        if name != "globals" and not node.args:
            if place.scope == "function":
                return  # a copy
            own = place.scope == "class"
        elif node.args:
            own = self._is_own(node.args[0], place)
        self._space(node, place, own)

    def _setter(self, node: ast.Call, name: str, place: _Place) -> None:
        """Inspect `setattr(x, n, v)`, `x.__setattr__(n, v)`, `monkeypatch.setattr("m.n", v)`."""
        args = node.args
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        whole = len(args) >= _SETTERS[name]
        if any(isinstance(argument, ast.Starred) for argument in args) or node.keywords:
            self._made_up(node, f"`{name}`", False)
        elif whole or receiver is None or not name.startswith("__"):
            if not whole and args and isinstance(args[0], ast.Constant):
                self._named(node, args[0], f"`{name}`", False, dotted=True)
            elif len(args) > 1:
                self._named(node, args[1], f"`{name}`", self._is_own(args[0], place))
        elif args:
            on_super = isinstance(receiver, ast.Call) and dotted_name(receiver.func) == "super"
            own = on_super or self._is_own(receiver, place)
            self._named(node, args[0], f"`{name}`", own)

    def _assigned(self, node: ast.Attribute, place: _Place) -> None:
        own = self._is_own(node.value, place)
        if node.attr in _FUNCTION:
            function = self.resolve(self.source, node.value)
            if function and dotted_name(node.value).partition(".")[0] not in place.hidden:
                self._one(node, function.rpartition(".")[2], f"`{node.attr}`", False)
            else:
                self._made_up(node, f"`{node.attr}`", False)
        elif node.attr in _IDENTITY:
            self._made_up(node, f"`{node.attr}`", own)
        else:
            self._one(node, node.attr, "an assignment", own)

    def _space(self, node: ast.expr, place: _Place, own: bool) -> None:
        """Inspect the use of a namespace: read, written under names, or passed on."""
        what = f"`{ast.unparse(node)}`"
        match place.parent:
            case ast.Subscript(value=value, slice=key, ctx=ctx) if value is node:
                if not isinstance(ctx, ast.Load):
                    self._named(node, key, what, own)
            case ast.Attribute(value=value, attr=attr) if value is node:
                call = place.above
                called = isinstance(call, ast.Call) and call.func is place.parent
                if attr in _READS or attr not in {*_WRITES, "update", "clear", "popitem"}:
                    return
                if not called or attr in ("clear", "popitem"):
                    self._made_up(node, what, own)
                elif attr == "update":
                    assert isinstance(call, ast.Call)
                    self._updated(call, what, own)
                else:
                    assert isinstance(call, ast.Call)
                    key = call.args[0] if call.args else ast.Name("key", ast.Load())
                    self._named(node, key, what, own)
            case ast.Compare() | ast.Starred() | ast.BinOp() | ast.Expr() | ast.FormattedValue():
                return
            case ast.For() | ast.comprehension() | ast.keyword(arg=None):
                return
            case ast.Dict(keys=keys, values=values) if (
                keys[next(i for i, v in enumerate(values) if v is node)] is None
            ):
                return
            case ast.Call(func=ast.Name(id=name)) if name in _LOOKERS:
                return
            case ast.Call(func=ast.Attribute(attr=attr, value=value)) if (
                attr in _COPIERS and dotted_name(value) != "dict"
            ):
                return
            case ast.keyword() if _is_looked_at(place.above):
                return
            case _:
                self._made_up(node, what, own)

    def _updated(self, call: ast.Call, what: str, own: bool) -> None:
        """Inspect `update`: `globals().update(a=1)` has literal names, `update(x)` has none."""
        displays = [a for a in call.args if isinstance(a, ast.Dict)]
        keys = [key for display in displays for key in display.keys]
        if len(displays) < len(call.args) or any(k.arg is None for k in call.keywords):
            self._made_up(call, what, own)
        for key in keys:
            self._named(call, key or call, what, own)
        for keyword in call.keywords:
            self._one(call, keyword.arg or "", what, own)

    def _patch(self, callee: ast.expr) -> str:
        """Return the kind of a `mock.patch` call: `patch`, `object`, `multiple`, or empty."""
        dotted = self.resolve(self.source, callee) or dotted_name(callee)
        *_, before, last = ["", "", *dotted.split(".")]
        known = dotted.startswith(("unittest.", "mock.", "patch", "mocker."))
        if known and last == "patch":
            return "patch"
        return last if known and before == "patch" and last in ("object", "multiple") else ""

    def _patched(self, node: ast.Call, kind: str) -> None:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if kind == "multiple":
            for name in given:
                if name is None:
                    self._made_up(node, "`patch`", False)
                else:
                    self._one(node, name, "`patch`", False)
            return
        index, keyword = (0, "target") if kind == "patch" else (1, "attribute")
        place = node.args[index] if len(node.args) > index else given.get(keyword)
        self._named(node, place or node, "`patch`", False, dotted=kind == "patch")

    def _means(self, node: ast.expr, wanted: str) -> bool:
        dotted = dotted_name(node)
        return bool(dotted) and wanted in (dotted, self.resolve(self.source, node))

    def _is_own(self, node: ast.expr, place: _Place) -> bool:
        return isinstance(node, ast.Name) and node.id in place.own

    def _named(
        self, node: ast.AST, name: ast.AST, what: str, own: bool, *, dotted: bool = False
    ) -> None:
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            text = name.value.rpartition(".")[2] if dotted else name.value
            self._one(node, text, what, own)
        else:
            self._made_up(node, what, own)

    def _one(self, node: ast.AST, name: str, what: str, own: bool) -> None:
        names = self.found.attributes if own else self.found.named
        names.setdefault(name, self._where(node, what))

    def _made_up(self, node: ast.AST, what: str, own: bool) -> None:
        if own:
            self.found.methods = self.found.methods or self._where(node, what)
        else:
            self.found.anything = self.found.anything or self._where(node, what)

    def _where(self, node: ast.AST, what: str) -> str:
        return f"{what} in line {getattr(node, 'lineno', 1)} of {self.source.file}"


def _is_callee(node: ast.AST, place: _Place) -> bool:
    return isinstance(place.parent, ast.Call) and place.parent.func is node


def _is_looked_at(call: ast.AST | None) -> bool:
    """Return whether a call uses its keyword arguments: `sorted(key=…)`, `json.dumps(obj=…)`."""
    name = ""
    if isinstance(call, ast.Call):
        name = getattr(call.func, "id", "") or getattr(call.func, "attr", "")
    return name in _LOOKERS | _COPIERS
