"""Find the models that a project's code names. Each step installs the libraries that they need.

    kitaru.llm(prompt, model="anthropic/claude-x")      that model
    kitaru.llm(prompt, model=MODEL)                     what the module sets MODEL to
    def ask(prompt, model="gpt-x"):                     the default, and what the project's own
        return kitaru.llm(prompt, model=model)          calls of `ask` pass
    kitaru.llm(prompt, model=TABLE[kind])               every value of the table
    kitaru.llm(prompt, model=f"anthropic/{size}")       "anthropic/*": the vendor decides
    kitaru.llm(prompt)                                  "": the default model

Every value that the source shows is collected, from all branches. If the source does not show the
value (an input, an environment variable), the call is reported as open.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import MODEL_KNOWN_AT_RUN_TIME
from kitaru_compiler.frontend.calls import SUBMITS
from kitaru_compiler.frontend.names import Names, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import argument_names
from kitaru_compiler.ir.walk import children

DEFAULT = ""
"""Represents the default model among the names."""

_ASKING = frozenset({"llm", "memory.compact", "aio.llm", "aio.memory.compact"})
_ENVIRONMENT = frozenset({"os.getenv", "os.environ.get"})
_OPEN = "*"
_DEEPEST = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class AskedModels(Struct):
    """The models named in code, sorted, and the calls whose model the source does not show."""

    names: tuple[str, ...]
    open: tuple[Diagnostic, ...]


def asked_models(names: Names, module: str) -> AskedModels:
    """Return the models that a module and its imports from the project may call."""
    reader = _Reader(names, [*names.project.closure(module).sources.values()])
    found: set[str] = set()
    open_calls: list[Diagnostic] = []
    for call, place in reader.asking():
        known = set(reader.models_of(call, place))
        found |= {name for name in known if name is not None}
        if None in known:
            message = "the model of this call is known only at run time"
            help = (
                "write the model out, name it in [tool.kitaru.models], or add `litellm` to the "
                "requirements"
            )
            span = place.source.span(call)
            open_calls.append(Diagnostic(MODEL_KNOWN_AT_RUN_TIME, span, message, help=help))
    return AskedModels(tuple(sorted(found)), tuple(open_calls))


class _Place(Struct):
    """The scope of an expression: `functions` are the enclosing functions, the innermost last."""

    source: Source
    functions: tuple[Function, ...] = ()

    @property
    def scope(self) -> str:
        """The scope's name for `Names`: the enclosing top-level function, or empty."""
        top = self.functions[0] if self.functions else None
        known = isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef)
        return top.name if known and top in self.source.tree.body else ""


Model = str | None
"""A model by name; None for a model that the source does not show."""


@dataclass
class _Reader:
    names: Names
    sources: list[Source]
    _pending: set[tuple[int, str]] = field(default_factory=set)

    def asking(self) -> Iterator[tuple[ast.Call, _Place]]:
        """Yield the calls that call a model, or that prepare a call: `partial(kitaru.llm, …)`."""
        for call, place in self._calls:
            if any(self._asks(one, place) for one in (call.func, *call.args)):
                yield call, place

    def models_of(self, call: ast.Call, place: _Place) -> Iterator[Model]:
        """Yield the models that a call may use."""
        said = [k.value for k in call.keywords if k.arg == "model"]
        unpacked = [k.value for k in call.keywords if k.arg is None]
        for value in said:
            yield from self._values(value, place)
        for value in unpacked:
            yield from self._entry(value, "model", place)
        if not said and not unpacked:
            yield DEFAULT

    def _asks(self, expression: ast.expr, place: _Place) -> bool:
        symbol = self.names.resolve(place.source, expression, place.scope)
        return symbol is not None and symbol.kind == "primitive" and symbol.name in _ASKING

    @cached_property
    def _calls(self) -> list[tuple[ast.Call, _Place]]:
        found: list[tuple[ast.Call, _Place]] = []

        def visit(node: ast.AST, place: _Place) -> None:
            if isinstance(node, ast.Call):
                found.append((node, place))
            if isinstance(node, Function):
                place = _Place(place.source, (*place.functions, node))
            for child in children(node):
                visit(child, place)

        # A call of a model, or of a function that passes it on, uses a name bound by an import.
        near = self.names.near_kitaru()
        for source in (source for source in self.sources if source.module in near):
            visit(source.tree, _Place(source))
        return found

    def _values(self, value: ast.expr, place: _Place, depth: int = 0) -> Iterator[Model]:
        """Yield the possible values of an expression."""
        if depth > _DEEPEST:
            yield None
            return
        deeper = depth + 1
        match value:
            case ast.Constant(value=None):
                yield DEFAULT
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp(body=body, orelse=orelse):
                yield from self._values(body, place, deeper)
                yield from self._values(orelse, place, deeper)
            case ast.BoolOp(values=values):
                for one in values:
                    yield from self._values(one, place, deeper)
            case ast.NamedExpr(value=inner):
                yield from self._values(inner, place, deeper)
            case ast.JoinedStr(values=parts):
                yield from self._joined([*parts], place, deeper)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                yield from self._joined([left, right], place, deeper)
            case ast.Subscript(value=table):
                yield from self._elements(table, place, deeper)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *default]) if (
                dotted_name(value.func) not in _ENVIRONMENT
            ):
                yield from self._elements(table, place, deeper)
                for one in default:
                    yield from self._values(one, place, deeper)
            case ast.Call(func=callee, args=[_, default]) if dotted_name(callee) in _ENVIRONMENT:
                yield None
                yield from self._values(default, place, deeper)
            case ast.Name() | ast.Attribute():
                yield from self._named(value, place, deeper)
            case _:
                yield None

    def _joined(self, parts: list[ast.expr], place: _Place, depth: int) -> Iterator[Model]:
        """Yield the possible values of a composed string, with `*` for unknown parts."""
        choices = []
        for part in parts:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            found = set(self._values(inner, place, depth))
            choices.append(sorted(_OPEN if one in (None, DEFAULT) else str(one) for one in found))
        for chosen in product(*choices):
            text = "".join(chosen)
            yield None if text.startswith(_OPEN) else text

    def _elements(self, table: ast.expr, place: _Place, depth: int) -> Iterator[Model]:
        """Yield the possible values in a table, or the elements of a list."""
        match table:
            case ast.Dict(values=values):
                inside = values
            case ast.List(elts=inside) | ast.Tuple(elts=inside) | ast.Set(elts=inside):
                pass
            case ast.Name() | ast.Attribute():
                bound = [*self._bound(table, place)]
                for one, where in bound:
                    yield from self._elements(one, where, depth + 1) if depth < _DEEPEST else [None]
                if not bound:
                    yield None
                return
            case _:
                yield None
                return
        for one in inside:
            yield from self._values(one, place, depth + 1)

    def _entry(self, table: ast.expr, key: str, place: _Place) -> Iterator[Model]:
        """Yield the possible values of a table's key, or the default if the key is missing."""
        if isinstance(table, ast.Dict) and all(isinstance(k, ast.Constant) for k in table.keys):
            pairs = zip(table.keys, table.values, strict=True)
            held = [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == key]
            for one in held:
                yield from self._values(one, place)
            if not held:
                yield DEFAULT
            return
        bound = [*self._bound(table, place)] if isinstance(table, ast.Name) else []
        for one, where in bound:
            yield from self._entry(one, key, where) if isinstance(one, ast.Dict) else [None]
        if not bound:
            yield None

    def _named(self, name: ast.Name | ast.Attribute, place: _Place, depth: int) -> Iterator[Model]:
        function = _binder(name.id, place) if isinstance(name, ast.Name) else None
        if (
            isinstance(name, ast.Name)
            and function is not None
            and name.id in argument_names(function.args)
        ):
            yield from self._passed(function, name.id, place, depth)
            return
        bound = [*self._bound(name, place)]
        for value, where in bound:
            yield from self._values(value, where, depth)
        if not bound:
            yield None

    def _bound(
        self, name: ast.Name | ast.Attribute, place: _Place
    ) -> Iterator[tuple[ast.expr, _Place]]:
        """Yield the values assigned to a variable of a function or a module."""
        dotted = dotted_name(name)
        if isinstance(name, ast.Name) and (function := _binder(name.id, place)) is not None:
            at = place.functions.index(function) + 1
            where = _Place(place.source, place.functions[:at])
            yield from ((value, where) for value in _set_to(name.id, function))
            return
        absolute = self.names.variable(place.source, dotted, place.scope) if dotted else ""
        module, _, variable = absolute.rpartition(".")
        source = self.names.project.find(module) if module else None
        # `config.MODEL.upper` also starts with a variable.
        if source is not None and dotted.endswith(variable):
            yield from ((value, _Place(source)) for value in _set_to(variable, source.tree))

    def _passed(
        self, function: Function, parameter: str, place: _Place, depth: int
    ) -> Iterator[Model]:
        """Yield a parameter's possible values: its default, and arguments of project calls."""
        if isinstance(function, ast.Lambda) or self._is_flow(function, place):
            yield None
            return
        key = (id(function), parameter)
        if key in self._pending:
            return
        self._pending.add(key)
        try:
            outside = _Place(place.source, place.functions[: place.functions.index(function)])
            for default in _default(function, parameter):
                yield from self._values(default, outside, depth)
            for call, where in self._calls:
                if self._is_call_of(call, where, function):
                    yield from self._argument(call, where, function, parameter, depth)
        finally:
            self._pending.discard(key)

    def _is_flow(self, function: ast.FunctionDef | ast.AsyncFunctionDef, place: _Place) -> bool:
        symbol = self.names.lookup(place.source, function.name)
        return symbol is not None and symbol.kind == "flow" and symbol.definition is function

    def _is_call_of(
        self, call: ast.Call, place: _Place, function: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> bool:
        callee = call.func
        if isinstance(callee, ast.Attribute) and callee.attr in SUBMITS:
            callee = callee.value
        symbol = self.names.resolve(place.source, callee, place.scope)
        if symbol is not None and symbol.definition is not None:
            return symbol.definition is function
        # A method, or a nested function.
        name = callee.attr if isinstance(callee, ast.Attribute) else dotted_name(callee)
        return name == function.name and (symbol is None or symbol.kind != "primitive")

    def _argument(
        self,
        call: ast.Call,
        place: _Place,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        parameter: str,
        depth: int,
    ) -> Iterator[Model]:
        """Yield the argument of a call for a parameter."""
        if named := [k.value for k in call.keywords if k.arg == parameter]:
            yield from self._values(named[0], place, depth)
            return
        positional = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        if positional[:1] in (["self"], ["cls"]):
            positional = positional[1:]
        at = positional.index(parameter) if parameter in positional else -1
        if any(isinstance(one, ast.Starred) for one in call.args[: at + 1]):
            yield None
        elif 0 <= at < len(call.args):
            spread = isinstance(call.func, ast.Attribute) and call.func.attr in ("map", "product")
            read = self._elements if spread else self._values
            yield from read(call.args[at], place, depth)
        elif any(k.arg is None for k in call.keywords):
            yield None


def _binder(name: str, place: _Place) -> Function | None:
    """Return the innermost enclosing function that binds a name."""
    for function in reversed(place.functions):
        if name in argument_names(function.args) or any(True for _ in _set_to(name, function)):
            return function
    return None


def _set_to(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    """Yield the values that a scope's own statements assign to a variable."""
    body = getattr(scope, "body", [])
    pending: list[ast.AST] = [*body] if isinstance(body, list) else [body]
    while pending:
        node = pending.pop(0)
        match node:
            case ast.Assign(targets=targets, value=value):
                if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                    yield value
            case ast.AnnAssign(target=ast.Name(id=bound), value=ast.expr() as value):
                if bound == name:
                    yield value
            case ast.NamedExpr(target=ast.Name(id=bound), value=value) if bound == name:
                yield value
            case ast.For(
                target=ast.Name(id=bound), iter=ast.List(elts=elts) | ast.Tuple(elts=elts)
            ):
                if bound == name:
                    yield from elts
        if not isinstance(node, Function | ast.ClassDef):
            pending += children(node)


def _default(function: Function, parameter: str) -> Iterator[ast.expr]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    paired = [
        *zip(reversed(positional), reversed(arguments.defaults), strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in paired:
        if argument.arg == parameter and default is not None:
            yield default
