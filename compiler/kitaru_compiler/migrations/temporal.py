"""Temporal: activities become checkpoints, workflow classes functions, signals waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import libcst as cst

from kitaru_compiler.fixes.module import Statement, dotted
from kitaru_compiler.migrations.rewriter import (
    Rewriter,
    callee,
    calls,
    decorated,
    decorators,
    functions,
    given,
    marked,
    nodes,
    positional,
    snake,
    string,
    without_async,
)

_W, _A = "temporalio.workflow.", "temporalio.activity."
_EXECUTE = ("execute_activity", "execute_local_activity")
_START = ("start_activity", "start_local_activity")
_HANDLERS = ("signal", "query", "update")
_DROPPED = ("task_queue", "id", "summary", "static_summary", "activity_id", "cancellation_type")


@dataclass
class _Workflow:
    """A workflow class: its `run` method, the attributes set by signals, and `__init__`."""

    name: str
    run: cst.FunctionDef
    signals: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The signal that sets each attribute, and the type of its value."""
    initial: dict[str, str] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    others: list[cst.FunctionDef] = field(default_factory=list)
    locals: dict[str, str] = field(default_factory=dict)


class Temporal(Rewriter):
    """Rewrites programs of Temporal's Python SDK."""

    packages = ("temporalio",)
    title = "Temporal workflow"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.workflows: dict[str, _Workflow] = {}
        self._class: _Workflow | None = None
        self._handles: set[str] = set()
        self._started: set[str] = set()
        self._conflicts: set[str] = set()

    def find(self) -> None:
        for function in functions(self.before):
            if any(self.name_of(callee(d)) == f"{_A}defn" for d in decorators(function)):
                self.checkpoints[function.name.value] = {}
        for node in nodes(self.before, cst.ClassDef):
            if isinstance(node, cst.ClassDef) and any(
                self.name_of(callee(d)) == f"{_W}defn" for d in decorators(node)
            ):
                self._add(node)
        for call in calls(self.before):
            if self._short(call) in (*_EXECUTE, *_START):
                self._take_options(call)

    def _without_loop(self) -> set[str]:
        methods = {w.run.name.value for w in self.workflows.values()}
        return (
            super()._without_loop()
            | methods
            | {h for w in self.workflows.values() for h in w.helpers}
        )

    def _short(self, call: cst.Call) -> str:
        name = self.name_of(call.func)
        return name.removeprefix(_W) if name.startswith(_W) else ""

    # What there is.

    def _add(self, node: cst.ClassDef) -> None:
        methods = functions(node)
        run = next((m for m in methods if self._kind(m) == "run"), None)
        if run is None:
            return
        found = _Workflow(self.fresh(snake(node.name.value)), run)
        for method in methods:
            kind = self._kind(method)
            if method.name.value == "__init__":
                found.initial = _assigned(method, self.code)
            elif kind == "signal" and (sets := self._set_by(method)):
                found.signals[sets[0]] = (method.name.value, sets[1])
            elif kind in _HANDLERS or (kind == "" and _uses_self(method, methods)):
                found.others.append(method)
            elif kind == "":
                found.helpers.add(method.name.value)
        bound = {dotted(n) for n in nodes(run.params, cst.Name)}
        bound |= {
            dotted(t.target)
            for t in nodes(run.body, cst.AssignTarget)
            if isinstance(t, cst.AssignTarget)
        }
        used = [a for a in _attributes(run) if a not in found.helpers]
        for attribute in dict.fromkeys([*found.signals, *found.initial, *used]):
            plain = attribute.lstrip("_")
            found.locals[attribute] = f"{plain}_value" if plain in bound else plain
        self.workflows[node.name.value] = found
        self.flows[node.name.value] = found.name

    def _kind(self, method: cst.FunctionDef) -> str:
        names = [self.name_of(callee(d)) for d in decorators(method)]
        return next((n.removeprefix(_W) for n in names if n.startswith(_W)), "")

    def _set_by(self, method: cst.FunctionDef) -> tuple[str, str] | None:
        """Return the attribute that a signal sets to its argument or to True, and the type."""
        body = [s for s in method.body.body if not _is_docstring(s)]
        only = (
            body[0].body[0]
            if len(body) == 1 and isinstance(body[0], cst.SimpleStatementLine)
            else None
        )
        parameters = method.params.params[1:]
        match only:
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Attribute(value=cst.Name("self"), attr=attr))],
                value=cst.Name(value=name),
            ):
                if not parameters and name == "True":
                    return attr.value, "bool"
                if len(parameters) == 1 and parameters[0].name.value == name:
                    annotation = parameters[0].annotation
                    return attr.value, self.code(annotation.annotation) if annotation else "bool"
        return None

    def _take_options(self, call: cst.Call) -> None:
        names = [dotted(value) for value in positional(call)[:1]]
        if not names or names[0] not in self.checkpoints:
            return
        options: dict[str, str] = {}
        if timeout := given(call, "start_to_close_timeout"):
            options["timeout"] = self.seconds(timeout)
        policy = given(call, "retry_policy")
        attempts = given(policy, "maximum_attempts") if policy else None
        if isinstance(attempts, cst.Integer) and attempts.evaluated_value > 0:
            options["retries"] = str(attempts.evaluated_value - 1)
        if policy and (delay := given(policy, "initial_interval")):
            options["retry_delay"] = self.seconds(delay)
        if policy and (factor := given(policy, "backoff_coefficient")):
            options["backoff"] = self.code(factor)
        before = self.checkpoints[names[0]]
        if before and before != options:
            self._conflicts.add(names[0])
        self.checkpoints[names[0]] = before or options

    # The walk.

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        self._class = self.workflows.get(node.name.value)
        return True

    def leave_ClassDef(
        self, original_node: cst.ClassDef, updated_node: cst.ClassDef
    ) -> cst.ClassDef | cst.FunctionDef | cst.FlattenSentinel[cst.FunctionDef]:
        workflow, self._class = self._class, None
        if workflow is None:
            return updated_node
        self.kitaru.add("flow")
        methods = {
            f.name.value: f for f in updated_node.body.body if isinstance(f, cst.FunctionDef)
        }
        run = methods[workflow.run.name.value]
        body = list(cast(cst.IndentedBlock, run.body).body)
        docstring = updated_node.get_docstring()
        at = 0
        if body and _is_docstring(body[0]):
            at = 1
        elif docstring:
            body.insert(0, cast(Statement, updated_node.body.body[0]))
            at = 1
        used = {dotted(n) for n in nodes(run.body, cst.Name)}
        for attribute, value in workflow.initial.items():
            local = workflow.locals[attribute]
            if attribute not in workflow.signals and local in used:
                body.insert(at, cst.parse_statement(f"{local} = {value}\n"))
                at += 1
        flow = without_async(run).with_changes(
            name=cst.Name(workflow.name),
            decorators=[decorated("flow", {})],
            params=_without_self(run.params),
            body=run.body.with_changes(body=body),
            leading_lines=updated_node.leading_lines,
        )
        whole = marked(flow, [t for m in workflow.others for t in self._left(m)])
        blank = [cst.EmptyLine(indent=False)] * 2
        lifted = [
            without_async(methods[name]).with_changes(
                params=_without_self(methods[name].params), leading_lines=blank
            )
            for name in methods
            if name in workflow.helpers
        ]
        return cst.FlattenSentinel([*lifted, cast(cst.FunctionDef, whole)])

    def _left(self, method: cst.FunctionDef) -> list[str]:
        kind = self._kind(method) or "method"
        return [
            f"{kind} `{method.name.value}` has no equivalent, it was: "
            + _one_line(self.code(method))
        ]

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        name = original_node.name.value
        if name in self.checkpoints:
            self.kitaru.add("checkpoint")
            if name in self._conflicts:
                self.mark("its calls have several timeouts or retry policies: one holds here")
            if "retries" not in self.checkpoints[name]:
                self.mark("Temporal retried it until it succeeded: set `retries=`, 0 by default")
            kept = [
                decorated("checkpoint", self.checkpoints[name])
                if self.is_theirs(self.name_of(callee(d.decorator)))
                else d
                for d in updated_node.decorators
            ]
            return updated_node.with_changes(decorators=kept)
        return without_async(updated_node) if name in self.sync else updated_node

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        if self.name_of(original_node) in (f"{_W}logger", f"{_A}logger"):
            return cst.Name(self.log())
        if self._class and dotted(original_node.value) == "self":
            local = self._class.locals.get(original_node.attr.value)
            if local or original_node.attr.value in self._class.helpers:
                return cst.Name(local or original_node.attr.value)
        return updated_node

    def leave_Expr(
        self, original_node: cst.Expr, updated_node: cst.Expr
    ) -> cst.BaseSmallStatement | cst.RemovalSentinel:
        value = original_node.value
        call = value.expression if isinstance(value, cst.Await) else value
        if isinstance(call, cst.Call) and self._class and self._short(call) == "wait_condition":
            return self._waited(call)
        return self._without_worker(call, updated_node)

    def _without_worker(
        self, call: cst.CSTNode, updated: cst.Expr
    ) -> cst.Expr | cst.RemovalSentinel:
        owner, _, last = (
            dotted(call.func).rpartition(".") if isinstance(call, cst.Call) else [""] * 3
        )
        return cst.RemoveFromParent() if owner in self.objects and last == "run" else updated

    def _waited(self, call: cst.Call) -> cst.BaseSmallStatement:
        assert self._class is not None
        condition = next(iter(positional(call)), None)
        test = condition.body if isinstance(condition, cst.Lambda) else None
        names = list(dict.fromkeys(_attributes(test))) if test is not None else []
        waits = [name for name in names if name in self._class.signals]
        if not waits or waits != names or not _is_set(test):
            self.mark("the condition is not that a signal came: write the waits")
        if len(waits) > 1:
            self.mark("several signals were awaited at once: here their answers come one by one")
        if given(call, "timeout"):
            self.mark("a wait has no deadline")
        made: list[str] = []
        for name in waits:
            signal, kind = self._class.signals[name]
            self.kitaru.add("wait")
            made.append(f'{self._class.locals[name]} = kitaru.wait(name="{signal}", schema={kind})')
        if not made:
            return cst.Expr(cst.parse_expression(self.code(call)))
        if len(made) > 1:
            targets = ", ".join(text.partition(" = ")[0] for text in made)
            made = [f"{targets} = {', '.join(text.partition(' = ')[2] for text in made)}"]
        line = cst.parse_statement(made[0])
        assert isinstance(line, cst.SimpleStatementLine)
        return line.body[0]

    def leave_Assign(
        self, original_node: cst.Assign, updated_node: cst.Assign
    ) -> cst.Assign | cst.RemovalSentinel:
        value = original_node.value
        call = value.expression if isinstance(value, cst.Await) else value
        target = dotted(original_node.targets[0].target)
        if isinstance(call, cst.Call):
            name = self.name_of(call.func)
            if name in ("temporalio.client.Client.connect", "temporalio.worker.Worker"):
                self.objects.add(target)
                return cst.RemoveFromParent()
            if self._short(call) in _START:
                self._handles.add(target)
            if dotted(call.func).rpartition(".")[2] == "start_workflow":
                self._started.add(target)
        return updated_node

    def leave_With(
        self, original_node: cst.With, updated_node: cst.With
    ) -> cst.With | cst.FlattenSentinel[cst.BaseStatement]:
        first = original_node.items[0].item
        if isinstance(first, cst.Call) and self.name_of(first.func) == "temporalio.worker.Worker":
            inner = list(updated_node.body.body)
            lines = [*updated_node.leading_lines, *cast(Statement, inner[0]).leading_lines]
            inner[0] = cast(Statement, inner[0]).with_changes(leading_lines=lines)
            return cst.FlattenSentinel(cast("list[cst.BaseStatement]", inner))
        return updated_node

    def is_awaitable(self, call: cst.Call) -> bool:
        last = dotted(call.func).rpartition(".")[2]
        starts = last in ("execute_workflow", "start_workflow", "result", "signal")
        own = self._class is not None and last in self._class.helpers
        return not (starts or own) and super().is_awaitable(call)

    def leave_Await(self, original_node: cst.Await, updated_node: cst.Await) -> cst.BaseExpression:
        if dotted(original_node.expression) in self._handles:
            return self.call(f"{dotted(original_node.expression)}.result", [])
        return super().leave_Await(original_node, updated_node)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        short = self._short(original_node)
        if short in (*_EXECUTE, *_START):
            return self._activity(original_node, updated_node, short)
        if short == "sleep":
            return self.paused(updated_node.args[0].value)
        if short in ("execute_child_workflow", "start_child_workflow"):
            return self._started_workflow(original_node, updated_node, child=True)
        if isinstance(original_node.func, cst.Attribute):
            attr, owner = original_node.func.attr.value, dotted(original_node.func.value)
            if attr in ("execute_workflow", "start_workflow"):
                return self._started_workflow(original_node, updated_node)
            if attr == "result" and owner in self._started:
                return self.call(f"{owner}.wait", [])
            if attr == "signal" and owner in self._started:
                return self._answer(owner, updated_node)
        return self.common_call(original_node, updated_node)

    def _answer(self, handle: str, updated: cst.Call) -> cst.BaseExpression:
        """Return the answer to a wait for a signal: `handle.signal(Review.approve, True)`."""
        self.mark("a started flow runs beside this code: answer it when it waits")
        self.kitaru.add("KitaruClient")
        signal, *values = positional(updated)
        name = string(signal) or dotted(signal).rpartition(".")[2]
        value = self.code(values[0]) if values else "True"
        arguments = [f"{handle}.exec_id", f'wait="{name}"', f"value={value}"]
        return self.call("KitaruClient().executions.input", arguments)

    def _activity(self, original: cst.Call, updated: cst.Call, short: str) -> cst.BaseExpression:
        names = [dotted(value) for value in positional(original)[:1]]
        if not names or names[0] not in self.checkpoints:
            self.mark("the activity is not a function of this file: import it as a checkpoint")
            if not names or not names[0]:
                return updated
        values = self._values(updated)
        return self.call(f"{names[0]}.submit" if short in _START else names[0], values)

    def _values(self, call: cst.Call) -> list[str]:
        """Return the arguments that a call passes on: positional, in `args=[…]` or as `arg=`."""
        values = [self.code(value) for value in positional(call)[1:]]
        several, one = given(call, "args"), given(call, "arg")
        if isinstance(several, cst.List | cst.Tuple):
            values += [self.code(element.value) for element in several.elements]
        elif several:
            values.append(f"*{self.code(several)}")
        return [*values, self.code(one)] if one else values

    def _started_workflow(
        self, original: cst.Call, updated: cst.Call, *, child: bool = False
    ) -> cst.BaseExpression:
        named = next(iter(positional(original)), None)
        owner = dotted(named.value) if isinstance(named, cst.Attribute) else ""
        if owner not in self.flows:
            self.mark("the workflow is not of this file: start its flow with `.run(…)`")
            return updated
        values = self._values(updated)
        if child:
            return self.call(self.flows[owner], values)
        last = dotted(original.func).rpartition(".")[2]
        return self.start(self.flows[owner], values, wait=last == "execute_workflow")


def _attributes(tree: cst.CSTNode | None) -> list[str]:
    """Return the attributes of `self` that code mentions."""
    found = nodes(tree, cst.Attribute) if tree is not None else []
    return [
        n.attr.value for n in found if isinstance(n, cst.Attribute) and dotted(n.value) == "self"
    ]


def _is_set(test: cst.BaseExpression | None) -> bool:
    """Return whether a test is `self.a`, `self.a is not None`, or several joined by `or`."""
    match test:
        case cst.BooleanOperation(left=left, right=right, operator=cst.Or() | cst.And()):
            return _is_set(left) and _is_set(right)
        case cst.Comparison(
            left=left,
            comparisons=[cst.ComparisonTarget(operator=cst.IsNot(), comparator=cst.Name("None"))],
        ):
            return _is_set(left)
        case cst.Attribute(value=cst.Name("self")):
            return True
    return False


def _assigned(method: cst.FunctionDef, code: object) -> dict[str, str]:
    """Return the attributes that `__init__` sets, each with its value."""
    found: dict[str, str] = {}
    for line in method.body.body:
        only = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
        target = value = None
        if isinstance(only, cst.Assign) and len(only.targets) == 1:
            target, value = only.targets[0].target, only.value
        elif isinstance(only, cst.AnnAssign):
            target, value = only.target, only.value
        if (
            isinstance(target, cst.Attribute)
            and dotted(target.value) == "self"
            and value is not None
        ):
            found[target.attr.value] = cst.Module([]).code_for_node(value)
    return found


def _uses_self(method: cst.FunctionDef, methods: list[cst.FunctionDef]) -> bool:
    known = {m.name.value for m in methods}
    return any(attribute not in known for attribute in _attributes(method))


def _without_self(parameters: cst.Parameters) -> cst.Parameters:
    kept = list(parameters.params)[1:]
    return parameters.with_changes(params=kept)


def _is_docstring(statement: cst.CSTNode) -> bool:
    inner = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
    return isinstance(inner, cst.Expr) and isinstance(inner.value, cst.SimpleString)


def _one_line(code: str) -> str:
    return "; ".join(line.strip() for line in code.strip().splitlines() if line.strip())
