"""Turn `gather` and task groups of checkpoint calls into submits, which become a native fan-out.

The calls are promised instead of started, and the source's own `gather` or task group awaits them.
A promised call runs in a node of its own, or, without a cut, in the task that awaits it, like the
coroutine in its place.

Before::

    texts = await asyncio.gather(draft(topic), check(topic))
    return texts

After::

    texts = await asyncio.gather(*[draft.promise(topic), check.promise(topic)])
    return texts

Before::

    async with asyncio.TaskGroup() as group:
        text = group.create_task(draft(topic))
        checked = group.create_task(check(topic))
    return text.result()

After::

    # fan-out
    async with asyncio.TaskGroup():
        draft_1 = draft.promise(topic)
        check_1 = check.promise(topic)
    async with asyncio.TaskGroup() as group:
        text = group.create_task(draft_1)
        checked = group.create_task(check_1)
    return text.result()

The list of a `gather` becomes the fan-out when calls get statements of their own (`hoist`). The
calls of a group are promised in a group as well, which raises what a failing argument raises.

The promises of a group are made before its tasks. A group stays as it is if the arguments of a
call may depend on what an earlier statement of the group has bound or appended.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field, replace

from kitaru_compiler.ir.awaits import asyncio_name
from kitaru_compiler.ir.build import assign, at, load, rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    Fan,
    FlowIR,
    Node,
    durable_calls,
    durable_of,
    is_deferred,
    mark_durable,
)
from kitaru_compiler.ir.scope import Comprehension, captured_names, read_names
from kitaru_compiler.ir.walk import walk

PROMISE = "promise"
_SIMPLE = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr | ast.Return
_UNSAFE = (ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom)


def gathers(ir: FlowIR) -> FlowIR:
    """Promise the calls that a `gather` or a task group makes, if it makes only those."""
    if not ir.is_async:
        return ir
    return replace(
        ir, body=rewrite(ir.body, lambda nodes: [p for node in nodes for p in _promised(ir, node)])
    )


def promises_of(node: ast.AST) -> ast.expr | None:
    """Return the list of promised calls that `await asyncio.gather(*[…])` waits for."""
    return getattr(node, "promises", None)


def _promised(ir: FlowIR, node: Node) -> list[Node]:
    if not isinstance(node, Code) or not any(map(is_deferred, walk(node.stmt))):
        return [node]
    if isinstance(node.stmt, ast.AsyncWith):
        return _task_group(ir, node.stmt) or [node]
    if isinstance(node.stmt, _SIMPLE):
        changed = _Gathers().visit(copy.deepcopy(node.stmt))
        # A statement that makes other coroutines, too, stays as it is.
        if not any(map(is_deferred, walk(changed))):
            return [Code(changed)]
    return [node]


class _Gathers(ast.NodeTransformer):
    """Promises the calls in each `await asyncio.gather(…)` that is evaluated at most once."""

    def visit_Await(self, node: ast.Await) -> ast.expr:
        call = node.value
        if asyncio_name(call) != "gather" or not isinstance(call, ast.Call):
            self.generic_visit(node)
            return node
        if not all(k.arg and isinstance(k.value, ast.Constant) for k in call.keywords):
            return node
        made = [_argument(argument) for argument in call.args]
        if not made or not all(made):
            return node
        every = [one for part in made for one in part]
        promises: ast.expr = at(node, ast.List(every, ast.Load()))
        match every:
            case [ast.Starred(value=ast.ListComp() as only)]:
                promises = only
        node.promises = promises  # type: ignore[attr-defined]
        call.args = [at(node, ast.Starred(promises, ast.Load()))]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, Comprehension):
            return super().generic_visit(node)
        # Python evaluates the first iterable once, outside of the comprehension.
        node.generators[0].iter = self.visit(node.generators[0].iter)
        return node


def _argument(node: ast.expr) -> list[ast.expr]:
    """Return an argument of `gather` with promised calls, empty if it is anything else."""
    if isinstance(node, ast.Starred):
        match node.value:
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                made = [_argument(one) for one in elts]
                return [one for part in made for one in part] if all(made) else []
            case ast.ListComp() | ast.GeneratorExp():
                listed = _comprehension(node.value, promised(node.value.elt))
                return [ast.copy_location(ast.Starred(listed, ast.Load()), node)] if listed else []
        return []
    call = promised(node)
    return [call] if call else []


def promised(node: ast.expr) -> ast.Call | None:
    """Return the promise for a call of an async checkpoint, None for anything else."""
    call = durable_of(node)
    if not isinstance(node, ast.Call) or call is None or not call.is_deferred:
        return None
    if call.kind != "checkpoint":
        return None
    inner = [*node.args, *node.keywords]
    if any(durable_calls(part) or _is_unsafe(part) for part in inner):
        return None
    if any(keyword.arg in (None, "after") for keyword in node.keywords):
        return None
    made = copy.copy(node)
    made.func = ast.copy_location(ast.Attribute(node.func, PROMISE, ast.Load()), node.func)
    mark_durable(made, replace(call, kind="submit", is_deferred=False))
    return made


def _is_unsafe(node: ast.AST) -> bool:
    return any(isinstance(inner, _UNSAFE) for inner in walk(node))


def _comprehension(
    node: ast.ListComp | ast.GeneratorExp, elt: ast.expr | None
) -> ast.ListComp | None:
    if elt is None or any(part.is_async for part in node.generators):
        return None
    if any(durable_calls(part) or _is_unsafe(part) for part in node.generators):
        return None
    return ast.copy_location(ast.ListComp(elt, node.generators), node)


# Task groups


@dataclass
class _Group:
    """A task group called `name`; `made` are the statements that promise its calls.

    `changed` are the variables that its statements have bound or appended to so far.
    """

    ir: FlowIR
    name: str
    made: list[ast.stmt] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)

    def statement(self, stmt: ast.stmt) -> ast.stmt | None:
        """Return a statement of the group with a promised call, None for any other statement."""
        changed = copy.copy(stmt)
        match changed:
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append"),
                    args=[value],
                    keywords=[],
                ) as call
            ):
                created = self._created(value)
                call = copy.copy(call)
                call.args = [created] if created else []
                changed.value = call
                self.changed.add(name)
            case ast.Expr(value=value) | ast.Assign(targets=[ast.Name()], value=value):
                created = self._created(value) or self._all_created(value)
                if created:
                    changed.value = created
                if isinstance(changed, ast.Assign) and isinstance(changed.targets[0], ast.Name):
                    self.changed.add(changed.targets[0].id)
            case _:
                return None
        return changed if created else None

    def _created(self, node: ast.expr) -> ast.expr | None:
        """Return `group.create_task(draft_1)` for `group.create_task(draft(topic))`."""
        call = self._call(node)
        if call is None or (made := promised(call)) is None or not self._may_be_early(made):
            return None
        return self._with(node, self._keep(made))

    def _all_created(self, node: ast.expr) -> ast.expr | None:
        """Return `[group.create_task(one_1) for one_1 in drafts_1]` for a list of tasks."""
        if not isinstance(node, ast.ListComp) or (call := self._call(node.elt)) is None:
            return None
        listed = _comprehension(node, promised(call))
        if listed is None or not self._may_be_early(listed):
            return None
        kept, one = self._keep(listed), self.ir.temporary("one")
        loop = ast.comprehension(at(node, ast.Name(one, ast.Store())), kept, [], 0)
        return at(node, ast.ListComp(self._with(node.elt, load(call, one)), [loop]))

    def _call(self, node: ast.expr) -> ast.expr | None:
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="create_task"),
                args=[call],
                keywords=keywords,
            ) if name == self.name and all(isinstance(k.value, ast.Constant) for k in keywords):
                return call
        return None

    def _may_be_early(self, value: ast.Call | ast.ListComp) -> bool:
        """Return whether a promise may be made before the earlier statements of the group."""
        parts = [*value.args, *value.keywords] if isinstance(value, ast.Call) else [value]
        read = {name for part in parts for name in read_names(part)}
        if not read:
            return True
        # A group may not have been entered yet.
        if read & {self.name, *self.changed}:
            return False
        return all(map(self._is_only_seen_by_name, self.changed))

    def _is_only_seen_by_name(self, name: str) -> bool:
        """Return whether code that does not mention a variable cannot see its changes."""
        if _is_captured(self.ir, name):
            return False
        appended = any(
            isinstance(node, ast.Attribute) and node.attr == "append" and _names(node.value, name)
            for node in walk(self.ir.definition)
        )
        return not appended or (
            self.ir.containers.get(name) is list and not _escapes(self.ir, name)
        )

    def _with(self, node: ast.expr, argument: ast.expr) -> ast.expr:
        changed = copy.copy(node)
        changed.args = [argument]  # type: ignore[attr-defined]
        return changed

    def _keep(self, value: ast.Call | ast.ListComp) -> ast.Name:
        hint = "submitted"
        if isinstance(value, ast.Call) and (call := durable_of(value)) and call.name.isidentifier():
            hint = call.name
        name = self.ir.temporary(hint)
        self.made.append(assign(value, name, value))
        return load(value, name)


def _task_group(ir: FlowIR, stmt: ast.AsyncWith) -> list[Node] | None:
    """Return the fan of a task group's calls and the group, None for any other statement."""
    match stmt.items:
        case [ast.withitem(context_expr=ast.Call(args=[], keywords=[]), optional_vars=ast.Name())]:
            (item,) = stmt.items
        case _:
            return None
    if asyncio_name(item.context_expr) != "TaskGroup":
        return None
    assert isinstance(item.optional_vars, ast.Name)
    group = _Group(ir, item.optional_vars.id)
    body: list[ast.stmt] = []
    for inner in stmt.body:
        changed = group.statement(inner)
        if changed is None:
            return None
        body.append(changed)
    opened = ast.withitem(copy.copy(item.context_expr), None)
    fan = ast.copy_location(ast.AsyncWith([opened], group.made), stmt)
    awaiting = ast.copy_location(ast.AsyncWith(stmt.items, body), stmt)
    return [Fan([fan], durable_calls(fan)), Code(awaiting)]


def _names(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_captured(ir: FlowIR, name: str) -> bool:
    """Return whether a closure of the flow reads a variable."""
    later = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.GeneratorExp)
    return any(
        isinstance(node, later) and name in captured_names(node)
        for node in walk(ir.definition)
        if node is not ir.definition
    )


def _escapes(ir: FlowIR, name: str) -> bool:
    """Return whether a list that is only ever bound to `name` may have another name as well."""
    kept: set[ast.AST] = set()
    for node in walk(ir.definition):
        match node:
            case ast.Attribute(value=value, attr="append") | ast.Subscript(value=value):
                kept.add(value)
            case ast.For(iter=value) | ast.comprehension(iter=value) | ast.Starred(value=value):
                kept.add(value)
            case ast.BinOp(left=left, right=right):
                kept |= {left, right}
    mentions = (node for node in walk(ir.definition) if _names(node, name))
    return any(node not in kept and not _is_store(node) for node in mentions)


def _is_store(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
