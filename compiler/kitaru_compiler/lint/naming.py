"""Find names and ids that the runtime would reject."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from kitaru.errors import UsageError
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.model import Diagnostic, Rule
from kitaru_compiler.diagnostics.rules.names import DUPLICATE_ID, NAME_NOT_ALLOWED, NAME_REFUSED
from kitaru_compiler.ir.nodes import DurableCall, durable_of
from kitaru_compiler.ir.scope import Function, argument_names
from kitaru_compiler.lint.body import Body

_LAZY = (ast.IfExp, ast.BoolOp, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_ARMS = ("body", "orelse", "handlers", "finalbody", "cases")


# What the argument `name` names, by the kind of the call.
_NAMED = {"wait": "wait", "sleep": "sleep", "event": "wait"}


def flow_name(body: Body) -> Iterator[Diagnostic]:
    """Find a flow with an invalid name."""
    return _own_name(body, NAME_REFUSED, "flow")


def checkpoint_name(body: Body) -> Iterator[Diagnostic]:
    """Find a checkpoint with an invalid name."""
    return _own_name(body, NAME_NOT_ALLOWED, "checkpoint")


def _own_name(body: Body, rule: Rule, kind: str) -> Iterator[Diagnostic]:
    named = [option.value for option in body.options if option.arg == "name"]
    name = named[0] if named else ast.Constant(body.definition.name)
    for message, help in _refused(kind, name):
        if named:
            yield body.find(rule, name, message, help=help)
        else:
            span = body.source.name_span(body.definition)
            yield Diagnostic(rule, span, message, help=help)


def call_names(body: Body) -> Iterator[Diagnostic]:
    """Find invalid literal names of waits and model calls, and invalid ids."""
    for node in body.nodes:
        durable = durable_of(node)
        if not isinstance(node, ast.Call) or durable is None:
            continue
        for keyword in node.keywords:
            if keyword.arg == "name" and durable.kind in ("wait", "sleep", "event", "llm"):
                kind = _NAMED.get(durable.kind, "model call")
            elif keyword.arg == "id" and _takes_no_id(body, node, durable):
                kind = "call"
            else:
                continue
            for message, help in _refused(kind, keyword.value):
                yield body.find(NAME_NOT_ALLOWED, keyword.value, message, help=help)


def _refused(kind: str, given: ast.expr) -> list[tuple[str, str]]:
    """Return the fault of a literal name, and the fix."""
    # An empty name counts as missing.
    if not isinstance(given, ast.Constant) or not isinstance(given.value, str) or not given.value:
        return []
    try:
        check_name(kind, given.value)
    except UsageError as error:
        return [(error.message, error.help)]
    return []


def _takes_no_id(body: Body, call: ast.Call, durable: DurableCall) -> bool:
    """Return whether `id=` is the invocation id: an own parameter `id` takes precedence.

    So do its `**parameters`, which accept any keyword.
    """
    if durable.kind not in ("checkpoint", "submit"):
        return False
    target = call.func
    if durable.kind == "submit" and isinstance(target, ast.Attribute):
        target = target.value
    symbol = body.symbol(target)
    definition = symbol.definition if symbol else None
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return definition.args.kwarg is None and "id" not in argument_names(definition.args)


def duplicate_ids(body: Body) -> Iterator[Diagnostic]:
    """Find an id that an earlier call used, on every path to the later call."""
    taken: dict[str, list[_Call]] = {}
    for call in _Calls(body).found:
        for earlier in taken.get(call.id, ()):
            if call.arms[: len(earlier.arms)] == earlier.arms:
                message = f'the id "{call.id}" is taken by an earlier call'
                related = ((body.source.span(earlier.node), "taken here"),)
                span = body.source.span(call.node)
                fix = f'give one of them another id, such as id="{call.id}_again"'
                yield Diagnostic(DUPLICATE_ID, span, message, "taken", fix, related)
                break
        taken.setdefault(call.id, []).append(call)


class _Call(Struct):
    """A call with a literal id; `arms` are the enclosing parts of statements that may not run."""

    id: str
    node: ast.expr
    arms: tuple[tuple[int, str], ...]


@dataclass
class _Calls:
    """Collects the calls with literal ids in source order."""

    body: Body
    found: list[_Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stmt in self.body.definition.body:
            self._visit(stmt, ())

    def _visit(self, node: ast.AST, arms: tuple[tuple[int, str], ...]) -> None:
        if isinstance(node, Function | ast.ClassDef):
            return
        for name, value in ast.iter_fields(node):
            inside = arms
            if isinstance(node, _LAZY) or (isinstance(node, ast.stmt) and name in _ARMS):
                inside = (*arms, (id(node), name))
            for number, child in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(child, ast.AST):
                    several = isinstance(node, _LAZY) or name in ("handlers", "cases")
                    self._visit(child, (*inside, (number, "")) if several else inside)
        if isinstance(node, ast.Call):
            self._take(node, arms)

    def _take(self, node: ast.Call, arms: tuple[tuple[int, str], ...]) -> None:
        durable = durable_of(node)
        given = [keyword.value for keyword in node.keywords if keyword.arg == "id"]
        if durable is None or not given or not _takes_no_id(self.body, node, durable):
            return
        # `.map(…)` of an empty list uses no id.
        if durable.kind == "submit" and getattr(node.func, "attr", "") != "submit":
            return
        if isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
            self.found.append(_Call(given[0].value, given[0], arms))
