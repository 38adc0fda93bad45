"""Move durable calls out of an expression, into temporaries in evaluation order."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

from kitaru_compiler.diagnostics.rules.cutting import COMPREHENSION_STAYS_TOGETHER
from kitaru_compiler.ir.build import assign, at, load
from kitaru_compiler.ir.nodes import (
    Code,
    Durable,
    Fan,
    FlowIR,
    If,
    Node,
    Region,
    durable_calls,
    durable_of,
)
from kitaru_compiler.ir.scope import Comprehension, bound_names
from kitaru_compiler.passes.comprehensions import written_out
from kitaru_compiler.passes.gathers import promises_of
from kitaru_compiler.passes.reordering import same_callee_later, same_later
from kitaru_compiler.passes.unroll import loop_items


@dataclass
class Expressions:
    """Lowers expressions. `prelude` are the statements to run before the returned expression.

    `bound` are the names that certainly have a value at this point.
    """

    ir: FlowIR
    bound: frozenset[str]
    prelude: list[Node] = field(default_factory=list)

    def lower(self, node: ast.expr) -> ast.expr:
        """Return the expression that replaces `node` after `prelude` has run."""
        if not durable_calls(node):
            return node
        call = durable_of(node)
        if call is not None:
            assert isinstance(node, ast.Call)
            name = self.ir.temporary(_identifier(call.name))
            self.prelude.append(Durable(assign(node, name, self._call_operands(node)), call))
            return load(node, name)
        node = copy.copy(node)
        match node:
            case ast.Await() if promises := promises_of(node):
                return self._gather(node, promises)
            case ast.NamedExpr():
                node.value = self.lower(node.value)
            case ast.IfExp() if not durable_calls(node.body, node.orelse):
                node.test = self.test(node.test)
            case ast.BoolOp() if not durable_calls(*node.values[1:]):
                node.values = [self.lower(node.values[0]), *node.values[1:]]
            case ast.IfExp():
                return self._choose(node, self.test(node.test), node.body, node.orelse)
            case ast.BoolOp():
                return self._short_circuit(node)
            case ast.Compare() if durable_calls(*node.comparators[1:]):
                return self._chain(node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp():
                items = self.written_out(node)
                return self._comprehension(node) if items is node else self.lower(items)
            case ast.GeneratorExp():
                self.first_iterable(node)
            case ast.UnaryOp(op=ast.Not()):
                node.operand = self.test(node.operand)
            case ast.JoinedStr():
                node.values = self._fields(node.values)
            case ast.Call():
                return self._call_operands(node)
            case ast.Compare():
                node.left, first = self._pair(node.left, node.comparators[0])
                node.comparators = [first, *node.comparators[1:]]
            case ast.Dict():
                self._dict(node)
            case _:
                self._fields_of(node)
        return node

    def _gather(self, node: ast.Await, promises: ast.expr) -> ast.expr:
        """Lower `await asyncio.gather(*[a.promise(1), b.promise(2)])`: promise the calls first."""
        name = self.ir.temporary("submitted")
        self.prelude.append(Fan([assign(promises, name, promises)], durable_calls(promises)))
        call = copy.copy(node.value)
        assert isinstance(call, ast.Call)
        call.args = [at(promises, ast.Starred(load(promises, name), ast.Load()))]
        node.value = call
        return node

    def test(self, node: ast.expr) -> ast.expr:
        """Lower `node` where only its truth matters; each operand is tested once."""
        if not durable_calls(node):
            return node
        match node:
            case ast.BoolOp() if durable_calls(*node.values[1:]):
                return self._flag(node)
            case ast.UnaryOp(op=ast.Not()):
                return at(node, ast.UnaryOp(ast.Not(), self.test(node.operand)))
        return self.lower(node)

    def _flag(self, node: ast.BoolOp) -> ast.expr:
        """Lower `a and ca()` as a test: a flag that is True only if every operand is true."""
        name = self.ir.temporary("test")
        conjunction = isinstance(node.op, ast.And)
        self.prelude.append(Code(assign(node, name, at(node, ast.Constant(not conjunction)))))
        done: list[Node] = [Code(assign(node, name, at(node, ast.Constant(conjunction))))]
        for value in reversed(node.values):
            inner = Expressions(self.ir, self.bound)
            test = inner.test(value)
            branch = (
                If(test, done, [], _place(value))
                if conjunction
                else If(test, [], done, _place(value))
            )
            done = [*inner.prelude, branch]
        self._append_flat(done)
        return load(node, name)

    def _short_circuit(self, node: ast.BoolOp) -> ast.expr:
        """Lower `a and ca()` as a value: the operand that decides."""
        name = self.ir.temporary("value")
        conjunction = isinstance(node.op, ast.And)
        rest: list[Node] = []
        # Python asks each operand of `(a or b) or ca()` once.
        values = list(_operands(node, type(node.op)))
        for index, value in reversed(list(enumerate(values))):
            kept = self._stored(value, name)
            more: list[Node] = []
            if index < len(values) - 1:
                asked = load(value, name)
                arms: tuple[list[Node], list[Node]] = (rest, []) if conjunction else ([], rest)
                more = [If(asked, *arms, _place(value))]
            rest = [*kept, *more]
        self._append_flat(rest)
        return load(node, name)

    def _choose(self, node: ast.expr, test: ast.expr, body: ast.expr, orelse: ast.expr) -> ast.expr:
        name = self.ir.temporary("value")
        then, other = self._stored(body, name), self._stored(orelse, name)
        self.prelude += _plain([If(test, then, other, _place(node))])
        return load(node, name)

    def _stored(self, value: ast.expr, name: str) -> list[Node]:
        """Return the statements that evaluate `value` into variable `name`."""
        inner = Expressions(self.ir, self.bound)
        if call := durable_of(value):
            stmt = assign(value, name, inner._call_operands(value))
            return [*inner.prelude, Durable(stmt, call)]
        kept = Code(assign(value, name, inner.lower(value)))
        return [*inner.prelude, kept]

    def _chain(self, node: ast.Compare) -> ast.expr:
        """Lower `a < b() < c()`: evaluate `b()` once, and `c()` only if `a < b()` is true."""
        name = self.ir.temporary("value")
        left, first = self._pair(node.left, node.comparators[0])
        left = self._spill(left, _bound(first))
        middle = self._spill(first, _bound(*node.comparators[1:]))
        compared = at(node, ast.Compare(left, [node.ops[0]], [middle]))
        self.prelude.append(Code(assign(node, name, compared)))
        here = self.prelude
        links = zip(node.ops[1:], node.comparators[1:], strict=True)
        for index, (op, comparator) in enumerate(links):
            inner = Expressions(self.ir, self.bound)
            right = inner._spill(inner.lower(comparator), _bound(*node.comparators[index + 2 :]))
            compared = at(node, ast.Compare(middle, [op], [right]))
            body = [*inner.prelude, Code(assign(node, name, compared))]
            here.append(If(load(node, name), body, [], _place(node)))
            middle, here = right, body
        self.prelude[:] = _plain(self.prelude)
        return load(node, name)

    def written_out(self, node: ast.expr) -> ast.expr:
        """Return the list for a comprehension over constants, any other node unchanged."""
        found = written_out(self.ir, node, self.bound)
        if found is None:
            return node
        naming, items = found
        self.prelude += [Code(stmt) for stmt in naming]
        return items

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.expr:
        self.first_iterable(node)
        if not durable_calls(node):
            return node
        name = self.ir.temporary("values")
        self.prelude.append(comprehension_unit(self.ir, assign(node, name, node), node))
        return load(node, name)

    def first_iterable(self, node: ast.expr) -> None:
        """Lower the first iterable, which Python evaluates outside the comprehension's scope."""
        first = copy.copy(node.generators[0])  # type: ignore[attr-defined]
        first.iter = self.lower(first.iter)
        node.generators = [first, *node.generators[1:]]  # type: ignore[attr-defined]

    def _call_operands(self, node: ast.expr) -> ast.Call:
        """Lower the parts of a call in Python's evaluation order: callee, arguments, keywords."""
        assert isinstance(node, ast.Call)
        node = copy.copy(node)
        if not durable_calls(node.func, *node.args, *(k.value for k in node.keywords)):
            return node
        node.args = [copy.copy(a) if isinstance(a, ast.Starred) else a for a in node.args]
        node.keywords = [copy.copy(k) for k in node.keywords]
        slots: list[tuple[ast.AST, str]] = []
        func, positional = node.func, list(node.args)
        if durable_of(node) is None:
            slots.append((node, "func"))
        holder = ast.List(positional, ast.Load())
        operands: list[ast.expr | None] = [func] if slots else []
        operands += [*holder.elts, *(_unpacked(k) for k in node.keywords)]
        lowered = self._operands(operands, called=bool(slots))
        if slots:
            node.func = lowered.pop(0)  # type: ignore[assignment]
        node.args = lowered[: len(positional)]  # type: ignore[assignment]
        for keyword, value in zip(node.keywords, lowered[len(positional) :], strict=True):
            keyword.value = value.value if isinstance(value, _Unpacked) else value  # type: ignore[assignment]
        return node

    def _operands(
        self, operands: list[ast.expr | None], called: bool = False
    ) -> list[ast.expr | None]:
        """Lower operands evaluated from left to right; store those before the last durable operand.

        `called` is true if the first operand is the callee.
        """
        last = max(
            (
                index
                for index, node in enumerate(operands)
                if node is not None and durable_calls(node)
            ),
            default=-1,
        )
        rebound = _bound_after(operands)
        result: list[ast.expr | None] = []
        for index, node in enumerate(operands):
            if node is None or index > last:
                result.append(node)
                continue
            lowered = self._lower_operand(node)
            if index < last:
                lowered = self._spill(lowered, rebound[index], called and index == 0)
            result.append(lowered)
        return result

    def _pair(self, left: ast.expr, right: ast.expr) -> tuple[ast.expr, ast.expr]:
        first, second = self._operands([left, right])
        assert first is not None and second is not None
        return first, second

    def _lower_operand(self, node: ast.expr) -> ast.expr:
        if isinstance(node, _Unpacked | ast.Starred):
            changed = copy.copy(node)
            changed.value = self.lower(node.value)
            return changed
        return self.lower(node)

    def _spill(
        self, node: ast.expr, rebound: frozenset[str] = frozenset(), called: bool = False
    ) -> ast.expr:
        """Evaluate `node` now, unless its value cannot change before it is read."""
        same = same_callee_later if called else same_later
        if same(node, self.ir, self.bound, rebound):
            return node
        if isinstance(node, ast.Starred):
            kept = self._keep(at(node, ast.List([node], ast.Load())))
            return at(node, ast.Starred(kept, ast.Load()))
        if isinstance(node, _Unpacked):
            kept = self._keep(at(node.value, ast.Dict([None], [node.value])))
            return _unpack(kept)
        return self._keep(node)

    def _keep(self, node: ast.expr) -> ast.Name:
        name = self.ir.temporary("kept")
        self.prelude.append(Code(assign(node, name, node)))
        return load(node, name)

    def _fields(self, values: list[ast.expr]) -> list[ast.expr]:
        """Lower an f-string, which formats each field before it evaluates the next."""
        last = max(index for index, value in enumerate(values) if durable_calls(value))
        result = []
        for index, value in enumerate(values):
            if index > last or isinstance(value, ast.Constant):
                result.append(value)
                continue
            assert isinstance(value, ast.FormattedValue)
            value = copy.copy(value)
            value.value = self.lower(value.value)
            if index < last:
                formatted = self._keep(at(value, ast.JoinedStr([value])))
                value = at(value, ast.FormattedValue(formatted, -1, None))
            result.append(value)
        return result

    def _dict(self, node: ast.Dict) -> None:
        pairs = list(zip(node.keys, node.values, strict=True))
        flat: list[ast.expr | None] = []
        for key, value in pairs:
            flat += [None, _unpack(value)] if key is None else [key, value]
        lowered = self._operands(flat)
        node.keys = lowered[::2]
        node.values = [v.value if isinstance(v, _Unpacked) else v for v in lowered[1::2]]  # type: ignore[misc]

    def _fields_of(self, node: ast.expr) -> None:
        """Lower the parts of any other expression, evaluated in the order of its fields."""
        slots: list[tuple[str, int | None]] = []
        operands: list[ast.expr | None] = []
        for name, value in ast.iter_fields(node):
            if isinstance(value, ast.expr):
                slots.append((name, None))
                operands.append(value)
            elif isinstance(value, list) and any(isinstance(v, ast.expr) for v in value):
                setattr(node, name, list(value))
                slots += [(name, index) for index in range(len(value))]
                operands += value
        for (name, index), value in zip(slots, self._operands(operands), strict=True):
            if index is None:
                setattr(node, name, value)
            else:
                getattr(node, name)[index] = value

    def _append_flat(self, nodes: list[Node]) -> None:
        self.prelude += _plain(nodes)


def comprehension_unit(ir: FlowIR, stmt: ast.stmt, node: Comprehension) -> Fan | Region:
    """Return the unit for a statement whose value is a comprehension that calls checkpoints."""
    if all(call.kind == "submit" for call in durable_calls(stmt)):
        return Fan([stmt], durable_calls(stmt))
    reason = "a comprehension runs over a value known only at run time"
    fix = "`.map(…)` or `.submit(…)` runs them side by side"
    if loop_items(ir, node.generators[0].iter) is not None:
        reason = "a comprehension may have conditions, targets and a scope of its own"
        fix = "write the calls out, or a plain list over constants: `[f(n) for n in (1, 2)]`"
    return Region([stmt], durable_calls(stmt), COMPREHENSION_STAYS_TOGETHER, reason, node, fix)


class _Unpacked(ast.expr):
    """Placeholder for `**value` among the operands; never left in the tree."""

    _fields = ("value",)
    value: ast.expr


def _operands(node: ast.expr, kind: type[ast.boolop]) -> Iterator[ast.expr]:
    """Yield the operands of `a or b or c`, wherever parentheses stand."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, kind):
        for value in node.values:
            yield from _operands(value, kind)
    else:
        yield node


def _unpacked(keyword: ast.keyword) -> ast.expr:
    return _unpack(keyword.value) if keyword.arg is None else keyword.value


def _unpack(value: ast.expr) -> ast.expr:
    node = _Unpacked()
    node.value = value
    return at(value, node)


def _bound(*nodes: ast.expr) -> frozenset[str]:
    return frozenset().union(*map(bound_names, nodes))


def _bound_after(operands: list[ast.expr | None]) -> list[frozenset[str]]:
    """Return for each operand the names that later operands may bind."""
    found: list[frozenset[str]] = []
    names: frozenset[str] = frozenset()
    for node in reversed(operands):
        found.append(names)
        new = _bound(node) if node is not None else frozenset()
        names = names | new if new else names
    return found[::-1]


def _plain(nodes: list[Node]) -> list[Node]:
    """Turn branches without durable code in their arms back into statements."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, If):
            body, orelse = _plain(node.body), _plain(node.orelse)
            if all(isinstance(inner, Code) for inner in [*body, *orelse]):
                stmts = [
                    [inner.stmt for inner in arm if isinstance(inner, Code)]
                    for arm in (body, orelse)
                ]
                whole = ast.If(node.test, stmts[0] or [at(node.source, ast.Pass())], stmts[1])
                node = Code(at(node.source, whole))
            else:
                node = If(node.test, body, orelse, node.source)
        result.append(node)
    return result


def _place(node: ast.expr) -> ast.stmt:
    return at(node, ast.Expr(node))


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name).lower()
