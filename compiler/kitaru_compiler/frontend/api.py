"""Signatures of Kitaru's own API, read from the source of the installed package.

The compiler must not import the runtime, and a second list of its functions would become outdated.
The signatures are therefore read from the source: `kitaru/__init__.py` is parsed, its imports are
followed, and a name is resolved to a function, a class, a module or an object of a known class. No
code of the package runs. Options of decorators are declared as `**options: Unpack[SomeTypedDict]`.
Their fields are keyword parameters here, as for a type checker.

    Api().member("wait")            -> Callable_(… question, schema, timeout …)
    Api().member("memory.get")      -> the method `Memories.get`, bound
    Api().member("nothing")         -> None: there is no such name

An uncertain result is `UNKNOWN`, which has every attribute and accepts every call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

from kitaru.wire.structs import Struct, replace
from kitaru_compiler.frontend.names import Symbol, dotted_name

ArgumentKind = Literal["positional_only", "positional_or_keyword", "keyword_only"]
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Bases that add no attributes to those of every object.
_PLAIN_BASES = frozenset({"Generic", "Protocol", "object", "ABC"})
# A class with one of these methods, or a name from it, is not read here.
_LAZY = frozenset({"__getattr__", "__getattribute__"})


class Argument(Struct):
    """A parameter; `annotation` is resolved in `module`."""

    name: str
    kind: ArgumentKind
    required: bool
    annotation: ast.expr | None = None
    module: str = ""


class Signature(Struct):
    """The parameters of a call. `more` and `named` are true if further arguments are accepted.

    `forwards` is true for `*args: P.args`: the call must also fit the decorated function.
    """

    name: str
    arguments: tuple[Argument, ...]
    more: bool = False
    named: bool = False
    forwards: bool = False


class Unknown:
    """An object that has every attribute and accepts every call."""


UNKNOWN = Unknown()


class Module(Struct):
    """A module of the package, by its dotted name."""

    name: str


class Class(Struct):
    """A class of the package: `name` is its name in `module`."""

    module: str
    name: str


class Instance(Struct):
    """An object of a class; `of` is the user's function behind a flow or a checkpoint."""

    cls: Class
    of: Symbol | None = None


@dataclass(frozen=True)
class Callable_:
    """A function of the package, or a method bound to `owner`."""

    module: str
    definition: Function = field(compare=False)
    owner: Instance | None = None


Member = Unknown | Module | Class | Instance | Callable_
Bound = tuple[Literal["import"], str, str] | tuple[Literal["value"], ast.AST]


@dataclass
class Api:
    """The public surface of the package `kitaru`."""

    _pending: set[tuple[str, str]] = field(default_factory=set)

    def member(self, dotted: str) -> Member | None:
        """Return the object `kitaru.DOTTED`, None if the name does not exist."""
        found: Member | None = Module("kitaru")
        for name in filter(None, dotted.split(".")):
            if found is None:
                return None
            found = self.attribute(found, name)
        return found

    def attribute(self, of: Member, name: str) -> Member | None:
        """Return an attribute; None if there is no attribute of that name."""
        if name.startswith("__") and name.endswith("__"):
            return UNKNOWN
        match of:
            case Module(module):
                return self._global(module, name)
            case Instance():
                return self._instance_attribute(of, name)
            case Class():
                found = self._class_attribute(of, name)
                return UNKNOWN if found else None
        return UNKNOWN

    def names(self, of: Member) -> list[str]:
        """Return the public attributes of a module, a class or an object, sorted."""
        match of:
            case Module(module):
                found = self._lazy(module) or set(_module(module))
            case Instance() | Class():
                cls = of.cls if isinstance(of, Instance) else of
                found = {name for one in self._family(cls)[0] for name in _own(one)}
            case _:
                found = set()
        return sorted(name for name in found if not name.startswith("_"))

    def signature(self, callee: Member) -> Signature | None:
        """Return the signature for a call of `callee`, None if it is uncertain."""
        match callee:
            case Callable_(module, definition, owner):
                return self._signature(module, definition, bound=owner is not None)
            case Class(module, name):
                init = self._class_attribute(callee, "__init__")
                if init is None or not isinstance(init[1], Function):
                    return None
                return replace(self._signature(init[0].module, init[1], bound=True), name=name)
            case Instance():
                call = self._class_attribute(callee.cls, "__call__")
                if call is not None and isinstance(call[1], Function):
                    return self._signature(call[0].module, call[1], bound=True)
        return None

    def result(self, callee: Member) -> Member:
        """Return the result of a call."""
        match callee:
            case Class():
                return Instance(callee)
            case Callable_(module, definition, owner):
                found = self._typed(module, definition.returns)
                if isinstance(found, Instance) and owner is not None:
                    return replace(found, of=owner.of)
                return found
        return UNKNOWN

    def fields(self, module: str, name: str) -> tuple[Argument, ...]:
        """Return the fields of a TypedDict as keyword parameters."""
        cls = self._global(module, name)
        if not isinstance(cls, Class):
            return ()
        found: dict[str, Argument] = {}
        for one in reversed(self._family(cls)[0]):
            definition = _definition(one)
            total = not any(
                k.arg == "total" and isinstance(k.value, ast.Constant) and not k.value.value
                for k in definition.keywords
            )
            for stmt in definition.body:
                match stmt:
                    case ast.AnnAssign(target=ast.Name(id=key), annotation=annotation):
                        found[key] = Argument(key, "keyword_only", total, annotation, one.module)
        return tuple(found.values())

    def values(self, module: str, annotation: ast.expr | None) -> frozenset[str] | None:
        """Return the kinds of literals that fit an annotation, None if all may fit.

        A kind is the name of a builtin type, `None`, `function`, the name of another class, or for
        `Literal[…]` the value in the form of `ast.unparse`.
        """
        match annotation:
            case ast.Constant(value=None):
                return frozenset({"None"})
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                one, other = self.values(module, left), self.values(module, right)
                return None if one is None or other is None else one | other
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
                written = inside.elts if isinstance(inside, ast.Tuple) else [inside]
                return frozenset(ast.unparse(one) for one in written)
            case ast.Subscript(value=ast.Name(id=name)):
                return _KINDS.get(name)
            case ast.Name(id=name) if name in _KINDS:
                return _KINDS[name]
            case ast.Name(id=name):
                return self._alias(module, name)
        return None

    def of_function(self, definition: Function) -> Signature:
        """Return the signature of a function of the project."""
        return self._signature("", definition, bound=False)

    def _alias(self, module: str, name: str) -> frozenset[str] | None:
        key = (module, f"={name}")
        bound = _module(module).get(name)
        if bound is None or key in self._pending:
            return None
        self._pending.add(key)
        try:
            match bound:
                case ("import", where, original) if where.startswith("kitaru"):
                    return self._alias(where, original)
                case ("value", ast.Assign(value=value)):
                    return self.values(module, value)
                case ("value", ast.ClassDef()) | ("import", "datetime", _):
                    return frozenset({name})
        finally:
            self._pending.discard(key)
        return None

    def _signature(self, module: str, definition: Function, *, bound: bool) -> Signature:
        arguments = definition.args
        positional = [*arguments.posonlyargs, *arguments.args]
        optional = len(positional) - len(arguments.defaults)
        static = any(
            isinstance(d, ast.Name) and d.id == "staticmethod" for d in _decorators(definition)
        )
        found = [
            Argument(
                argument.arg,
                "positional_only"
                if index < len(arguments.posonlyargs)
                else "positional_or_keyword",
                index < optional,
                argument.annotation,
                module,
            )
            for index, argument in enumerate(positional)
        ]
        if bound and not static:
            found = found[1:]
        found += [
            Argument(argument.arg, "keyword_only", default is None, argument.annotation, module)
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
        forwards = arguments.vararg is not None and _is_parameters(arguments.vararg.annotation)
        named = arguments.kwarg is not None and not forwards
        match arguments.kwarg and arguments.kwarg.annotation:
            case ast.Subscript(value=ast.Name(id="Unpack"), slice=ast.Name(id=options)):
                found += self.fields(module, options)
                named = False
        more = arguments.vararg is not None and not forwards
        return Signature(definition.name, tuple(found), more, named, forwards)

    def _typed(self, module: str, annotation: ast.expr | None) -> Member:
        """Return the object that an annotation declares."""
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.value
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if isinstance(annotation, ast.Name):
            found = self._global(module, annotation.id) if annotation.id not in _KINDS else None
            if isinstance(found, Class):
                return Instance(found)
        return UNKNOWN

    def _instance_attribute(self, of: Instance, name: str) -> Member | None:
        found = self._class_attribute(of.cls, name)
        if found is None:
            return UNKNOWN if self._family(of.cls)[1] else None
        owner, definition = found
        match definition:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                decorated = {dotted_name(d) for d in _decorators(definition)}
                if decorated & {"property", "cached_property"}:
                    return self._typed(owner.module, definition.returns)
                if decorated - {"overload", "staticmethod"}:
                    return UNKNOWN
                return Callable_(owner.module, definition, of)
            case ast.Assign(value=ast.Name(id=other)) if other in _own(owner):
                return self._instance_attribute(of, other)
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.Call() as value):
                return self._evaluated(owner.module, value)
            case ast.AnnAssign(annotation=annotation):
                return self._typed(owner.module, annotation)
        return UNKNOWN

    def _class_attribute(self, cls: Class, name: str) -> tuple[Class, ast.AST] | None:
        for one in self._family(cls)[0]:
            own = _own(one)
            if name in own:
                return one, own[name]
        return None

    def _family(self, cls: Class) -> tuple[list[Class], bool]:
        """Return a class and its bases in the package, and whether other attributes may exist."""
        found, open_, pending = [], False, [cls]
        while pending:
            one = pending.pop(0)
            if one in found:
                continue
            found.append(one)
            open_ |= bool(_LAZY & _own(one).keys())
            for base in _definition(one).bases:
                name = dotted_name(base.value if isinstance(base, ast.Subscript) else base)
                inner = self._global(one.module, name) if "." not in name else UNKNOWN
                if isinstance(inner, Class):
                    pending.append(inner)
                elif name not in _PLAIN_BASES:
                    open_ = True
        return found, open_

    def _global(self, module: str, name: str) -> Member | None:
        """Return the object of a module's name, None if the name does not exist."""
        bound = _module(module).get(name)
        key = (module, name)
        if bound is None or bound == ("import", module, name):
            if _tree(f"{module}.{name}") is not None:
                return Module(f"{module}.{name}")
            return UNKNOWN if name in self._lazy(module) else None
        if key in self._pending:
            return UNKNOWN
        self._pending.add(key)
        try:
            match bound:
                case ("import", where, original):
                    return self._imported(where, original)
                case ("value", ast.FunctionDef() | ast.AsyncFunctionDef() as definition):
                    return Callable_(module, definition)
                case ("value", ast.ClassDef()):
                    return Class(module, name)
                case ("value", ast.expr() as value):
                    return self._evaluated(module, value)
                case ("value", ast.Assign(value=value)):
                    return self._evaluated(module, value)
        finally:
            self._pending.discard(key)
        return UNKNOWN

    def _imported(self, where: str, name: str) -> Member:
        if where.partition(".")[0] != "kitaru":
            return UNKNOWN
        if not name:
            return Module(where)
        return self._global(where, name) or UNKNOWN

    def _evaluated(self, module: str, value: ast.AST) -> Member:
        """Return the value of an expression of the package, if it is simple."""
        match value:
            case ast.Name(id=name):
                return self._global(module, name) or UNKNOWN
            case ast.Attribute(value=inner, attr=name):
                return self.attribute(self._evaluated(module, inner), name) or UNKNOWN
            case ast.Call(func=function):
                return self.result(self._evaluated(module, function))
        return UNKNOWN

    def _lazy(self, module: str) -> set[str]:
        """Return the names in a module's `__all__`, which a `__getattr__` may create."""
        bound = _module(module).get("__all__")
        match bound:
            case ("value", ast.Assign(value=ast.List(elts=names))):
                return {str(n.value) for n in names if isinstance(n, ast.Constant)}
        return set()


# Parsing and searching the package takes longer than compiling most flows. The package does not
# change while a process runs, so it is done once.


@cache
def _own(cls: Class) -> dict[str, ast.AST]:
    """Return the definition of each attribute of a class and of its objects."""
    found: dict[str, ast.AST] = {}
    for stmt in _definition(cls).body:
        match stmt:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found[name] = stmt
                for node in ast.walk(stmt):
                    for target, value in _assigned(node):
                        match target:
                            case ast.Attribute(value=ast.Name(id="self"), attr=attribute):
                                found.setdefault(attribute, value)
            case _:
                for target, value in _assigned(stmt):
                    if isinstance(target, ast.Name):
                        found[target.id] = value
    return found


def _definition(cls: Class) -> ast.ClassDef:
    bound = _module(cls.module)[cls.name]
    assert bound[0] == "value" and isinstance(bound[1], ast.ClassDef)
    return bound[1]


@cache
def _module(name: str) -> dict[str, Bound]:
    """Return the binding of each name of a module. A missing module has no names."""
    tree = _tree(name)
    return dict(_bindings(tree.body, name)) if tree else {}


@cache
def _tree(name: str) -> ast.Module | None:
    package, *parts = name.split(".")
    path = resources.files(package).joinpath(*parts)
    module = resources.files(package).joinpath(*parts[:-1], f"{parts[-1]}.py" if parts else "")
    for file in (path.joinpath("__init__.py"), module):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


_KINDS: dict[str, frozenset[str] | None] = {
    "str": frozenset({"str"}),
    "bytes": frozenset({"bytes"}),
    "bool": frozenset({"bool"}),
    "int": frozenset({"int", "bool"}),
    "float": frozenset({"float", "int", "bool"}),
    "dict": frozenset({"dict"}),
    "list": frozenset({"list"}),
    "tuple": frozenset({"tuple"}),
    "set": frozenset({"set"}),
    "Mapping": frozenset({"dict"}),
    "Sequence": frozenset({"list", "tuple"}),
    "Callable": frozenset({"function"}),
    "Any": None,
    "object": None,
    "type": None,
    "Iterable": None,
    "Iterator": None,
}


def _decorators(definition: Function) -> list[ast.expr]:
    return [d.func if isinstance(d, ast.Call) else d for d in definition.decorator_list]


def _is_parameters(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Attribute) and annotation.attr == "args"


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.AST]]:
    """Yield each target of an assignment with the node of its value."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Tuple):
                    pairs = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
                    values: list[ast.AST] = list(value.elts) if pairs else [node] * len(target.elts)  # type: ignore[attr-defined]
                    yield from zip(target.elts, values, strict=True)
                else:
                    yield target, node
        case ast.AnnAssign(target=target):
            yield target, node


def _bindings(body: list[ast.stmt], module: str) -> Iterator[tuple[str, Bound]]:
    """Yield the binding of each name, in source order; both arms of an `if` count."""
    for stmt in body:
        match stmt:
            case ast.Import(names=names):
                for alias in names:
                    first = alias.name.partition(".")[0]
                    yield (
                        alias.asname or first,
                        ("import", alias.name if alias.asname else first, ""),
                    )
            case ast.ImportFrom(module=where, names=names, level=0):
                for alias in names:
                    yield alias.asname or alias.name, ("import", where or "", alias.name)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name, ("value", stmt)
            case ast.If(body=then, orelse=otherwise):
                yield from _bindings(otherwise, module)
                yield from _bindings(then, module)
            case _:
                for target, value in _assigned(stmt):
                    if isinstance(target, ast.Name):
                        yield target.id, ("value", value)
