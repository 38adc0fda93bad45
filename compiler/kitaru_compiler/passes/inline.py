"""Inline helpers at their calls if that preserves their meaning.

The inlined code remains the helper's: it keeps its variables, its module and its source positions.
Nothing is renamed or substituted, so no name can be captured or shadowed. The helper in this
example calls a checkpoint in its condition.

Before::

    text = review(topic)
    return publish(text)

After::

    # text = review(text=topic)
        check_1 = check(text)  # step
        if check_1:
            return shorten(text)
        return draft(text)  # step
    return publish(text)  # step
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules.cutting import HELPER_STAYS_TOGETHER, INTERNAL_FAULT
from kitaru_compiler.ir.build import load
from kitaru_compiler.ir.nodes import (
    Activation,
    Code,
    Durable,
    Fan,
    FlowIR,
    If,
    Inline,
    Node,
    Region,
    Return,
    Scope,
)
from kitaru_compiler.passes.binding import Bound, Why, bind
from kitaru_compiler.passes.local_functions import LocalFunctionStays
from kitaru_compiler.passes.unroll import MAX_CALLS

# Returns a helper in normal form by its absolute name, or why it must stay a call.
FindHelper = Callable[[str], FlowIR | Why]


def inline(ir: FlowIR, find: FindHelper) -> FlowIR:
    """Inline the helpers that a flow in normal form calls, and the helpers that they call."""
    if ir.whole:
        return ir
    return replace(ir, body=_Inliner(find).nodes(ir.body, Activation("", ir)))


@dataclass
class _Inliner:
    """Inlines helpers until the flow has grown by `room` durable calls."""

    find: FindHelper
    room: int = MAX_CALLS
    taken: set[str] = field(default_factory=set)

    def nodes(self, nodes: list[Node], caller: Activation) -> list[Node]:
        """Return the nodes of one function with its helpers inlined."""
        result: list[Node] = []
        for node in nodes:
            match node:
                case If(test, body, orelse, source):
                    arms = self.nodes(body, caller), self.nodes(orelse, caller)
                    result.append(If(test, *arms, source))
                case Scope(label, body, source):
                    result.append(Scope(label, self.nodes(body, caller), source))
                case Durable(call=call) if call.callee:
                    result += self._call(node, caller)
                case _:
                    result.append(node)
        return result

    def _call(self, node: Durable, caller: Activation) -> list[Node]:
        call = _call_of(node.stmt)
        helper = self.find(node.call.callee)
        if node.call.is_local and not self._fits(call, helper):
            raise LocalFunctionStays(node.call.callee)
        if not isinstance(helper, FlowIR):
            return [_kept(node, helper)]
        if helper.whole:
            reason = f"in `{helper.name}`, {helper.whole.reason}"
            rule = INTERNAL_FAULT if helper.whole.rule is INTERNAL_FAULT else HELPER_STAYS_TOGETHER
            return [_kept(node, (reason, helper.whole.help), rule)]
        bound = bind(call, helper)
        if not isinstance(bound, Bound):
            return [_kept(node, bound)]
        size = _size(helper.body)
        if size > self.room:
            why = f"written out, the flow's helpers would make more than {MAX_CALLS} calls"
            return [_kept(node, (why, "call the helper in fewer places"))]
        self.room -= size
        outer = _outer(helper, caller)
        activation = Activation(self._name(helper.name), helper, caller, call, outer)
        body = self.nodes(helper.body, activation)
        target, after = _use(node.stmt, caller.ir)
        written = Inline(node.stmt, activation, bound.arguments, bound.defaults, body, target)
        return [written, *after]

    def _fits(self, call: ast.Call, helper: FlowIR | Why) -> bool:
        """Return whether the body of a local function can replace its call."""
        if not isinstance(helper, FlowIR) or helper.whole:
            return False
        return isinstance(bind(call, helper), Bound) and _size(helper.body) <= self.room

    def _name(self, base: str) -> str:
        name, number = base, 1
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name


def _outer(helper: FlowIR, caller: Activation) -> Activation | None:
    """Return the innermost activation of the function that defines a local function."""
    outer: Activation | None = caller if helper.outer else None
    while outer and outer.ir.definition is not helper.outer:
        outer = outer.caller
    return outer


def _call_of(stmt: ast.stmt) -> ast.Call:
    call = getattr(stmt, "value", None)
    assert isinstance(call, ast.Call)
    return call


def _kept(node: Durable, why: Why, rule: Rule = HELPER_STAYS_TOGETHER) -> Region:
    reason, fix = why
    return Region([node.stmt], [node.call], rule, reason, _call_of(node.stmt), fix)


def _size(nodes: list[Node]) -> int:
    """Return the maximum number of steps that a helper's own body creates."""
    size = 0
    for node in nodes:
        match node:
            case If(body=body, orelse=orelse):
                size += _size(body) + _size(orelse)
            case Scope(body=body):
                size += _size(body)
            case Durable() | Fan() | Region():
                size += 1
    return size


def _use(stmt: ast.stmt, ir: FlowIR) -> tuple[str, list[Node]]:
    """Return the variable for the call's value, and the rest of the statement that uses it."""
    match stmt:
        case ast.Expr():
            return "", []
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name, []
    changed = copy.copy(stmt)
    name = ir.temporary("value")
    changed.value = load(_call_of(stmt), name)  # type: ignore[attr-defined]
    return name, [Return(changed) if isinstance(changed, ast.Return) else Code(changed)]
