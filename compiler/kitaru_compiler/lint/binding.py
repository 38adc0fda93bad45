"""Find calls of Kitaru's API that Python would reject: names, arguments and literal types.

Every module of the project is read, including decorators and `if __name__ == "__main__"`. A call is
checked if its callee is certain: a primitive, a decorator, a flow, a checkpoint, or an object
returned by one of them, directly or through a variable that is bound once.

    client = KitaruClient()
    handle = review_flow.options(cache=False).run("kayaks")   # Runner.run, then review_flow itself
    handle.wiat()                                             # Handle has no `wiat`
    client.executions.get(handle.exec_id, 3)                  # surplus argument

An error that a surrounding handler would catch is not reported: code uses `try: from kitaru import
wait` with `except ImportError` to support several releases.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kitaru.compat.removed import ATTRIBUTES, REMOVED
from kitaru.wire.names import nearest
from kitaru_compiler.diagnostics.model import Diagnostic, Rule, SourceError
from kitaru_compiler.diagnostics.rules.primitives import (
    UNKNOWN_NAME,
    WRONG_ARGUMENT_TYPE,
    WRONG_ARGUMENTS,
)
from kitaru_compiler.frontend.api import (
    UNKNOWN,
    Api,
    Argument,
    Class,
    Instance,
    Member,
    Module,
    Signature,
)
from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import Comprehension, Function, argument_names, bound_names, own_nodes
from kitaru_compiler.ir.walk import children, walk

_FLOW, _CHECKPOINT = Class("kitaru.flows", "Flow"), Class("kitaru.checkpoints", "Checkpoint")
# The exceptions that a handler may catch, by rule.
_CAUGHT = {
    WRONG_ARGUMENTS.code: {"TypeError"},
    UNKNOWN_NAME.code: {"AttributeError", "ImportError", "ModuleNotFoundError", "hasattr"},
    WRONG_ARGUMENT_TYPE.code: {"TypeError", "UsageError", "KitaruError"},
}
_FAN_OUT = frozenset({"map", "product"})
# The display name of each kind of literal in messages.
_SHOWN = {"function": "a function", "None": "None"}


def misused_api(names: Names, module: str) -> list[Diagnostic]:
    """Return the invalid calls of Kitaru in `module` and the project files that it imports."""
    # A file that is not valid Python is reported elsewhere.
    with suppress(SourceError):
        names.project.closure(module)
    sources = sorted({s.file: s for s in names.project.sources.values() if s}.items())
    near = names.near_kitaru()
    if not near:
        return []
    api = Api()
    assigned = {
        node.attr
        for _, source in sources
        for node in source.nodes.of(ast.Attribute)
        if not isinstance(node.ctx, ast.Load)
    }
    return [
        diagnostic
        for _, source in sources
        if source.module in near
        for diagnostic in _Reader(names, source, api, frozenset(assigned)).read()
    ]


@dataclass(frozen=True)
class _Scope:
    """The context of an expression.

    `function` is the enclosing top-level function, empty in the module's own scope. `variables` are
    the names bound by enclosing functions, with their only value, None if there are several.
    `caught` are the exceptions handled around the expression.
    """

    function: str = ""
    variables: dict[str, tuple[ast.expr, _Scope] | None] = field(default_factory=dict)
    caught: frozenset[str] = frozenset()


@dataclass
class _Reader:
    """Reads one file."""

    names: Names
    source: Source
    api: Api
    assigned: frozenset[str]
    found: list[Diagnostic] = field(default_factory=list)
    _pending: set[int] = field(default_factory=set)

    def read(self) -> list[Diagnostic]:
        for stmt in self.source.tree.body:
            self._visit(stmt, _Scope())
        return self.found

    # Walking, with the scope of each node.

    def _visit(self, node: ast.AST, scope: _Scope) -> None:
        match node:
            case ast.ImportFrom(module=str(module), level=0) if _is_kitaru(module):
                self._check_import(node, module, scope)
            case ast.Call():
                self._check_call(node, scope)
            case ast.Attribute(ctx=ast.Load()):
                self._check_attribute(node, scope)
            case ast.Try() | ast.TryStar():
                self._visit_all(node.body, self._guarded(scope, _handled(node)))
                self._visit_all([*node.handlers, *node.orelse, *node.finalbody], scope)
                return
            case ast.With() | ast.AsyncWith():
                self._visit_all([item.context_expr for item in node.items], scope)
                self._visit_all(node.body, self._guarded(scope, _expected(node)))
                return
            case ast.If() | ast.IfExp():
                if any(isinstance(n, ast.Name) and n.id == "hasattr" for n in walk(node.test)):
                    scope = self._guarded(scope, {"hasattr"})
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._visit_function(node, scope)
                return
            case ast.ClassDef():
                self._visit_all([*node.decorator_list, *node.bases, *node.keywords], scope)
                own = set().union(*map(bound_names, node.body))
                for stmt in node.body:
                    # Methods do not see the names of their class's body.
                    inner = scope if isinstance(stmt, Function) else _hiding(scope, own)
                    self._visit(stmt, inner)
                return
            case _ if isinstance(node, Comprehension):
                targets = [generator.target for generator in node.generators]
                scope = _hiding(scope, {n for t in targets for n in _stored(t)})
        self._visit_all(children(node), scope)

    def _visit_all(self, nodes: Iterable[ast.AST], scope: _Scope) -> None:
        for node in nodes:
            self._visit(node, scope)

    def _visit_function(self, node: Function, scope: _Scope) -> None:
        arguments = node.args
        defaults = [*arguments.defaults, *(d for d in arguments.kw_defaults if d)]
        if isinstance(node, ast.Lambda):
            self._visit_all(defaults, scope)
            self._visit(node.body, _hiding(scope, set(argument_names(arguments))))
            return
        self._visit_all([*node.decorator_list, *defaults], scope)
        top = node in self.source.tree.body
        # A handler around a definition does not surround the function's calls.
        inner = replace(scope, caught=frozenset(), function=node.name if top else scope.function)
        values = _values(node, imports=not top)
        own: dict[str, tuple[ast.expr, _Scope] | None] = {}
        within = replace(inner, variables={**scope.variables, **dict.fromkeys(values)})
        for name, value in values.items():
            own[name] = None if value is None else (value, within)
        within.variables.update(own)
        self._visit_all(node.body, within)

    def _guarded(self, scope: _Scope, caught: set[str]) -> _Scope:
        return replace(scope, caught=scope.caught | caught)

    # What an expression is.

    def _member(self, node: ast.expr, scope: _Scope) -> Member:
        """Return the object of Kitaru's that an expression refers to, `UNKNOWN` if uncertain."""
        return self._member_or_none(node, scope) or UNKNOWN

    def _member_or_none(self, node: ast.expr, scope: _Scope) -> Member | None:
        match node:
            case ast.Name(id=name):
                return self._named(node, name, scope)
            case ast.Attribute(value=value, attr=name):
                if symbol := self._symbol(node, scope):
                    # Through a module of the project, or of Kitaru.
                    return self._of_symbol(symbol)
                return self.api.attribute(self._member(value, scope), name)
            case ast.Call(func=function):
                return self.api.result(self._member(function, scope))
        return UNKNOWN

    def _named(self, node: ast.Name, name: str, scope: _Scope) -> Member | None:
        if name in scope.variables:
            return self._variable(scope.variables[name])
        if symbol := self._symbol(node, scope):
            return self._of_symbol(symbol)
        definition = self.names.assignment(self.source, name, scope.function)
        return UNKNOWN if definition is None else self._variable((definition, _Scope()))

    def _variable(self, bound: tuple[ast.expr, _Scope] | None) -> Member:
        if bound is None or id(bound[0]) in self._pending:
            return UNKNOWN
        self._pending.add(id(bound[0]))
        try:
            return self._member(*bound)
        finally:
            self._pending.discard(id(bound[0]))

    def _symbol(self, node: ast.expr, scope: _Scope) -> Symbol | None:
        root = dotted_name(node).partition(".")[0]
        if not root or root in scope.variables:
            return None
        return self.names.resolve(self.source, node, scope.function)

    def _of_symbol(self, symbol: Symbol) -> Member | None:
        match symbol.kind:
            case "primitive":
                return self.api.member(symbol.name)
            case "flow":
                return Instance(_FLOW, symbol)
            case "checkpoint":
                return Instance(_CHECKPOINT, symbol)
        return UNKNOWN

    # What is wrong.

    def _check_import(self, node: ast.ImportFrom, module: str, scope: _Scope) -> None:
        dotted = module.partition(".")[2]
        where = self.api.member(dotted)
        if where is None:
            self._report(UNKNOWN_NAME, node, f"there is no module `{module}`", scope)
            return
        for alias in node.names:
            if alias.name != "*" and self.api.attribute(where, alias.name) is None:
                self._unknown(alias, where, alias.name, module, scope)

    def _check_attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        if node.attr in self.assigned or self._member_or_none(node, scope) is not None:
            return
        where = self._member(node.value, scope)
        if where is not UNKNOWN:
            self._unknown(node, where, node.attr, _described(where), scope)

    def _unknown(
        self, node: ast.AST, where: Member, name: str, described: str, scope: _Scope
    ) -> None:
        message = f"`{described}` has no `{name}`"
        owner = ""
        if isinstance(where, Module):
            owner = where.name.partition(".")[2]
        elif isinstance(where, Instance):
            owner = where.cls.name
        instead = ATTRIBUTES.get(f"{owner}.{name}") if owner else REMOVED.get(name)
        help = instead or _meant(name, self.api.names(where))
        close = "" if instead else nearest(name, self.api.names(where)) or ""
        self._report(UNKNOWN_NAME, node, message, scope, help, close)

    def _check_call(self, node: ast.Call, scope: _Scope) -> None:
        callee = self._member(node.func, scope)
        signature = self.api.signature(callee)
        if signature is None:
            return
        owner = callee if isinstance(callee, Instance) else getattr(callee, "owner", None)
        shown = dotted_name(node.func)
        if not shown:
            shown = f"{_described(owner) if owner else 'kitaru'}.{signature.name}"
        if signature.forwards:
            self._check_forwarded(node, shown, owner, scope, signature.name)
            return
        if signature.name in _FAN_OUT and owner is not None and owner.of is not None:
            self._check_forwarded(node, shown, owner, scope, signature.name)
            return
        self._check_arguments(node, shown, signature, scope)

    def _check_forwarded(
        self,
        node: ast.Call,
        shown: str,
        owner: Instance | None,
        scope: _Scope,
        method: str,
    ) -> None:
        """Check a call with arguments for the function of a flow or a checkpoint."""
        definition = owner.of.definition if owner and owner.of else None
        if owner is None or not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        signature = self.api.of_function(definition)
        own = {argument.name for argument in signature.arguments}
        options = self._call_options(owner, method, definition)
        extra = tuple(a for a in options if a.name not in own)
        signature = replace(signature, arguments=(*signature.arguments, *extra))
        self._check_arguments(node, shown, signature, scope, typed={a.name for a in extra})

    def _call_options(
        self, owner: Instance, method: str, definition: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> tuple[Argument, ...]:
        if owner.cls == _CHECKPOINT:
            # The function's own `**parameters` accept any keyword.
            if definition.args.kwarg is not None:
                return ()
            return self.api.fields("kitaru.checkpoints", "CallOptions")
        if owner.cls == _FLOW and method == "run":
            return self.api.fields("kitaru.local_flow", "RunOptions")
        return ()

    def _check_arguments(
        self,
        node: ast.Call,
        shown: str,
        signature: Signature,
        scope: _Scope,
        typed: set[str] | None = None,
    ) -> None:
        spread = any(isinstance(argument, ast.Starred) for argument in node.args)
        positional = [a for a in signature.arguments if a.kind != "keyword_only"]
        given: dict[str, ast.expr] = {}
        for index, argument in enumerate(node.args):
            if isinstance(argument, ast.Starred):
                break
            if index < len(positional):
                given[positional[index].name] = argument
            elif not signature.more:
                most = f"{len(positional)} argument{'' if len(positional) == 1 else 's'}"
                most = f"at most {most} by position" if positional else "no argument by position"
                help = f"signature: {_written(shown, signature)}"
                self._report(WRONG_ARGUMENTS, argument, f"`{shown}` takes {most}", scope, help)
                break
        by_keyword = {a.name: a for a in signature.arguments if a.kind != "positional_only"}
        for keyword in node.keywords:
            if keyword.arg is None:
                spread = True
            elif keyword.arg in by_keyword:
                if keyword.arg in given:
                    message = f"`{shown}` is given `{keyword.arg}` twice"
                    self._report(WRONG_ARGUMENTS, keyword, message, scope)
                given[keyword.arg] = keyword.value
            elif not signature.named:
                message = f"`{shown}` has no parameter `{keyword.arg}`"
                help = _meant(keyword.arg, by_keyword)
                close = nearest(keyword.arg, by_keyword) or ""
                self._report(WRONG_ARGUMENTS, keyword, message, scope, help, close)
        if not spread:
            self._check_missing(node, shown, signature, given, scope)
        for parameter in signature.arguments:
            if parameter.name in given and (typed is None or parameter.name in typed):
                self._check_type(given[parameter.name], shown, parameter, scope)

    def _check_missing(
        self,
        node: ast.Call,
        shown: str,
        signature: Signature,
        given: dict[str, ast.expr],
        scope: _Scope,
    ) -> None:
        missing = [a.name for a in signature.arguments if a.required and a.name not in given]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            help = f"signature: {_written(shown, signature)}"
            self._report(WRONG_ARGUMENTS, node, f"`{shown}` is called without {names}", scope, help)

    def _check_type(self, value: ast.expr, shown: str, argument: Argument, scope: _Scope) -> None:
        fitting = self.api.values(argument.module, argument.annotation)
        kinds = self._kinds(value, scope)
        if fitting is None or not kinds or kinds & fitting:
            return
        annotation = argument.annotation
        assert annotation is not None
        wanted = ast.unparse(annotation)
        literals = [one for one in sorted(fitting) if not one.isidentifier()]
        if literals:
            wanted = f"one of {', '.join(literals)}"
        message = f"`{argument.name}` of `{shown}` must be {wanted}, not {ast.unparse(value)}"
        help = _converted(value, argument.name, fitting)
        number = _number(value, fitting)
        self._report(WRONG_ARGUMENT_TYPE, value, message, scope, help, number)

    def _kinds(self, value: ast.expr, scope: _Scope) -> set[str]:
        """Return the kinds of a literal, empty if they are uncertain."""
        match value:
            case ast.Constant(value=None):
                return {"None"}
            case ast.Constant(value=constant):
                return {type(constant).__name__, ast.unparse(value)}
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return {type(number).__name__}
            case ast.JoinedStr():
                # It may be any of the values of a Literal.
                return set()
            case ast.List() | ast.ListComp():
                return {"list"}
            case ast.Tuple():
                return {"tuple"}
            case ast.Dict() | ast.DictComp():
                return {"dict"}
            case ast.Set() | ast.SetComp():
                return {"set"}
            case ast.Lambda():
                return {"function"}
            case ast.Call(func=function):
                symbol = self._symbol(function, scope)
                if symbol and symbol.kind == "module" and symbol.name == "datetime.timedelta":
                    return {"timedelta"}
        return set()

    def _report(
        self,
        rule: Rule,
        node: ast.AST,
        message: str,
        scope: _Scope,
        help: str = "",
        replacement: str = "",
    ) -> None:
        if not _CAUGHT[rule.code] & scope.caught:
            span = self.source.span(node)
            self.found.append(Diagnostic(rule, span, message, help=help, replacement=replacement))


def _is_kitaru(module: str) -> bool:
    return module.partition(".")[0] == "kitaru"


def _meant(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = nearest(name, known)
    if close:
        return f"did you mean `{close}`?"
    return f"known names: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def _written(shown: str, signature: Signature) -> str:
    """Format a signature as in Python, with optional parameters as `=…`."""
    parts = []
    for argument in signature.arguments:
        if argument.kind == "keyword_only" and "*" not in parts:
            parts.append("*")
        parts.append(argument.name if argument.required else f"{argument.name}=…")
    return f"{shown}({', '.join(parts)})"


def _converted(value: ast.expr, name: str, fitting: frozenset[str]) -> str:
    """Return the probably intended argument, if it is obvious."""
    if number := _number(value, fitting):
        return f"write {name}={number}"
    match value:
        case ast.Call(func=function) if "timedelta" in dotted_name(function) and "float" in fitting:
            return f"write {name}={ast.unparse(value)}.total_seconds()"
    close = nearest(ast.unparse(value), fitting)
    return f"did you mean {name}={close}?" if close else ""


def _number(value: ast.expr, fitting: frozenset[str]) -> str:
    """Return the number in a string literal in Python's format, or an empty string."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        for kind, convert in (("int", int), ("float", float)):
            with suppress(ValueError):
                if kind in fitting:
                    return str(convert(value.value))
    return ""


def _described(where: Member) -> str:
    if isinstance(where, Instance):
        decorated = where.of if where.cls in (_FLOW, _CHECKPOINT) else None
        return decorated.name.rpartition(".")[2] if decorated else where.cls.name
    return where.name if isinstance(where, Module | Class) else "kitaru"


def _hiding(scope: _Scope, names: set[str]) -> _Scope:
    return replace(scope, variables={**scope.variables, **dict.fromkeys(names)})


def _stored(target: ast.expr) -> set[str]:
    return {node.id for node in walk(target) if isinstance(node, ast.Name)}


def _handled(node: ast.Try | ast.TryStar) -> set[str]:
    """Return the names of the handled exceptions."""
    types = [handler.type for handler in node.handlers if handler.type]
    return {dotted_name(one).rpartition(".")[2] for t in types for one in _members(t)}


def _expected(node: ast.With | ast.AsyncWith) -> set[str]:
    """Return the exceptions named by `suppress(…)`, `pytest.raises(…)` and similar calls."""
    calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
    named = [one for call in calls for argument in call.args for one in _members(argument)]
    return {dotted_name(one).rpartition(".")[2] for one in named}


def _members(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _values(
    function: ast.FunctionDef | ast.AsyncFunctionDef, *, imports: bool
) -> dict[str, ast.expr | None]:
    """Return the names that a function binds, each with its only value, if there is only one.

    Imported names are left out, because `Names` resolves those of a top-level function.
    """
    nodes = [node for stmt in function.body for node in own_nodes(stmt)]
    outside = {name for n in nodes if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names}
    found: dict[str, ast.expr | None] = dict.fromkeys(argument_names(function.args))
    bound = [name for stmt in function.body for name in bound_names(stmt)]
    stores = [n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
    inner = {
        name for node in walk(function) if isinstance(node, ast.Nonlocal) for name in node.names
    }
    found.update(dict.fromkeys(name for name in bound if name not in outside))
    for node in nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if stores.count(name) == 1 and name not in inner and bound.count(name) == 1:
                found[name] = value
    if not imports:
        for name in _imported(nodes):
            found.pop(name, None)
    return found


def _imported(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from bound_names(node)
