"""Inngest: functions become flows, `step.run` calls become checkpoints, event waits waits."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import cast

import libcst as cst

from kitaru_compiler.fixes.module import dotted
from kitaru_compiler.fixes.values import bound_at
from kitaru_compiler.migrations.rewriter import (
    Rewriter,
    as_name,
    calls,
    decorated,
    decorators,
    functions,
    nodes,
    positional,
    string,
    without_async,
)


@dataclass
class _Function:
    """An Inngest function: the name of its context, its inputs, and its nested steps."""

    context: str
    step: str
    inputs: dict[str, str] = field(default_factory=dict)
    """The keys of the event's data that it reads, each with its default."""
    nested: dict[str, cst.FunctionDef] = field(default_factory=dict)
    captured: dict[str, list[str]] = field(default_factory=dict)


class Inngest(Rewriter):
    """Rewrites programs of Inngest's Python SDK."""

    packages = ("inngest",)
    title = "Inngest function"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._known: dict[str, _Function] = {}
        self._events: set[str] = set()
        self._lifted: dict[str, cst.FunctionDef] = {}

    def find(self) -> None:
        for node in nodes(self.before, cst.Assign):
            assert isinstance(node, cst.Assign)
            made = node.value.func if isinstance(node.value, cst.Call) else None
            if made is not None and self.name_of(made) == "inngest.Inngest":
                self.objects.add(dotted(node.targets[0].target))
        for function in functions(self.before):
            for decorator in decorators(function):
                if isinstance(decorator, cst.Call) and self._creates(decorator.func):
                    self._add(function)

    def _creates(self, node: cst.BaseExpression) -> bool:
        owner, _, last = dotted(node).rpartition(".")
        return owner in self.objects and last == "create_function"

    def _add(self, function: cst.FunctionDef) -> None:
        parameters = [p.name.value for p in function.params.params]
        context = parameters[0] if parameters else "ctx"
        step = parameters[1] if len(parameters) > 1 else f"{context}.step"
        found = _Function(context, step)
        self.flows[function.name.value] = function.name.value
        self._known[function.name.value] = found
        data = f"{context}.event.data"
        for node in nodes(function.body, cst.Subscript, cst.Call):
            if isinstance(node, cst.Subscript) and dotted(node.value) == data:
                found.inputs.setdefault(_key(node), "")
            elif isinstance(node, cst.Call) and dotted(node.func) == f"{data}.get":
                key, *rest = positional(node)
                found.inputs[string(key)] = self.code(rest[0]) if rest else "None"
        found.inputs.pop("", None)
        nested = {f.name.value: f for f in functions(function.body)}
        for call in calls(function.body):
            if dotted(call.func) != f"{step}.run":
                continue
            handler = positional(call)[1] if len(positional(call)) > 1 else None
            name = _called(handler)
            if name in nested and not nested[name].params.params:
                found.nested[name] = nested[name]
                found.captured[name] = self._captured(function, nested[name])
            if name:
                self.checkpoints[name] = {}

    def _captured(self, function: cst.FunctionDef, inner: cst.FunctionDef) -> list[str]:
        """Return the variables of the enclosing function that a nested function reads."""
        tree = ast.parse(self.code(function.with_changes(decorators=[], leading_lines=[])).strip())
        bound = {name for node in ast.walk(tree) for name in bound_at(node)}
        own = ast.parse(
            self.code(inner.with_changes(leading_lines=[])).strip("\n").replace("\t", "    ")
        )
        read = dict.fromkeys(
            n.id for n in ast.walk(own) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        )
        stored = {name for node in ast.walk(own) for name in bound_at(node)}
        return [name for name in read if name in bound - stored]

    def _without_loop(self) -> set[str]:
        return super()._without_loop() - self.checkpoints.keys()

    @property
    def _function(self) -> _Function | None:
        return next(
            (self._known[f.name.value] for f in self._functions if f.name.value in self._known),
            None,
        )

    # The walk.

    def leave_Assign(
        self, original_node: cst.Assign, updated_node: cst.Assign
    ) -> cst.Assign | cst.RemovalSentinel:
        target = dotted(original_node.targets[0].target)
        if target in self.objects:
            return cst.RemoveFromParent()
        value = original_node.value
        call = value.expression if isinstance(value, cst.Await) else value
        step = self._function.step if self._function else ""
        if isinstance(call, cst.Call) and dotted(call.func) == f"{step}.wait_for_event":
            self._events.add(target)
        if dotted(updated_node.value) == target and target:
            # `topic = ctx.event.data["topic"]` has become an input.
            return cst.RemoveFromParent()
        return updated_node

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        if not self._function:
            return updated_node
        if dotted(original_node) == f"{self._function.context}.logger":
            return cst.Name(self.log())
        if original_node.attr.value == "data" and dotted(original_node.value) in self._events:
            return updated_node.value
        return updated_node

    def leave_Subscript(
        self, original_node: cst.Subscript, updated_node: cst.Subscript
    ) -> cst.BaseExpression:
        function = self._function
        data = f"{function.context}.event.data" if function else ""
        key = _key(original_node) if data and dotted(original_node.value) == data else ""
        return cst.Name(as_name(key)) if key else updated_node

    def is_awaitable(self, call: cst.Call) -> bool:
        function = self._function
        name = dotted(call.func)
        if function and name.startswith((f"{function.step}.", f"{function.context}.group.")):
            return False
        return super().is_awaitable(call)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        function = self._function
        if function is None:
            return self.common_call(original_node, updated_node)
        name = dotted(original_node.func)
        if name == f"{function.context}.event.data.get":
            return cst.Name(as_name(string(positional(original_node)[0])))
        if name == f"{function.context}.group.parallel":
            return self._parallel(updated_node)
        method = (
            name.removeprefix(f"{function.step}.") if name.startswith(f"{function.step}.") else ""
        )
        match method:
            case "run":
                return self._run(function, original_node, updated_node)
            case "sleep":
                return self.paused(positional(updated_node)[1])
            case "wait_for_event":
                event = string(next(iter(positional(original_node)), None))
                self.mark(
                    "set the schema of the answer; the wait has no deadline and is never None"
                )
                return self.wait(event or "event", "dict")
            case str() if method:
                self.mark(f"`{name}` has no equivalent that is certain")
        return self.common_call(original_node, updated_node)

    def _run(
        self, function: _Function, original: cst.Call, updated: cst.Call
    ) -> cst.BaseExpression:
        handler = positional(original)[1] if len(positional(original)) > 1 else None
        new = positional(updated)
        name = _called(handler)
        if not name:
            self.mark("the step is no function that is named: make it a checkpoint")
            return updated
        if name in function.nested:
            return self.call(name, function.captured[name])
        if isinstance(handler, cst.Lambda):
            body = cast(cst.Lambda, new[1]).body
            return body.expression if isinstance(body, cst.Await) else body
        if isinstance(handler, cst.Call):
            return self.call(name, self.arguments(cast(cst.Call, new[1]), 1))
        return self.call(name, [self.code(value) for value in new[2:]])

    def _parallel(self, updated: cst.Call) -> cst.BaseExpression:
        listed = next(iter(positional(updated)), None)
        elements = listed.elements if isinstance(listed, cst.Tuple | cst.List) else ()
        made: list[str] = []
        for element in elements:
            inner = element.value
            call = self._submitted(inner.body) if isinstance(inner, cst.Lambda) else None
            if call is None:
                made = []
                break
            made.append(self.code(call))
        if not made:
            self.mark("these steps ran side by side: `.submit(…)` and `.result()`")
            return updated
        return cst.parse_expression(f"[call.result() for call in [{', '.join(made)}]]")

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.RemovalSentinel | cst.FlattenSentinel[cst.FunctionDef]:
        name = original_node.name.value
        if name in self._known:
            return self._flow(self._known[name], original_node, updated_node)
        if name in self.checkpoints:
            if self._function:
                self._lifted[name] = updated_node
                return cst.RemoveFromParent()
            self.kitaru.add("checkpoint")
            return updated_node.with_changes(
                decorators=[decorated("checkpoint", {}), *updated_node.decorators]
            )
        return without_async(updated_node) if name in self.sync else updated_node

    def _flow(
        self, function: _Function, original: cst.FunctionDef, updated: cst.FunctionDef
    ) -> cst.FlattenSentinel[cst.FunctionDef]:
        self.kitaru |= {"flow", "checkpoint"}
        required = [key for key, default in function.inputs.items() if not default]
        optional = [key for key, default in function.inputs.items() if default]
        parts = [as_name(key) for key in required]
        parts += [f"{as_name(key)}={function.inputs[key]}" for key in optional]
        shape = cst.parse_statement(f"def f({', '.join(parts)}): pass")
        assert isinstance(shape, cst.FunctionDef)
        options: dict[str, str] = {}
        for decorator in decorators(original):
            if isinstance(decorator, cst.Call) and self._creates(decorator.func):
                options = self._options(decorator)
        blank = [cst.EmptyLine(indent=False)] * 2
        lifted = [
            self._lifted[name].with_changes(
                params=cst.Parameters([cst.Param(cst.Name(n)) for n in function.captured[name]]),
                decorators=[decorated("checkpoint", {})],
                leading_lines=blank,
            )
            for name in function.nested
        ]
        kept = [
            d
            for d in updated.decorators
            if not (isinstance(d.decorator, cst.Call) and self._creates(d.decorator.func))
        ]
        flow = without_async(updated).with_changes(
            decorators=[decorated("flow", options), *kept], params=shape.params
        )
        return cst.FlattenSentinel([*lifted, flow])

    def _options(self, decorator: cst.Call) -> dict[str, str]:
        # Without this option, Inngest retries each step four times.
        options = {"retries": "4"}
        for argument in decorator.args:
            option = argument.keyword.value if argument.keyword else ""
            if option == "retries":
                options["retries"] = self.code(argument.value)
            elif option == "trigger":
                event = _one_line(self.code(argument.value))
                self.mark(f"it was started by {event}: use `.run(…)` or `kitaru invoke`")
            elif option not in ("fn_id", "name"):
                value = _one_line(self.code(argument.value))
                self.mark(f"`{option}={value}` has no equivalent that is certain")
        return options


def _called(handler: cst.BaseExpression | None) -> str:
    """Return the function that a step runs: a name, `lambda: f(x)` or `partial(f, x)`."""
    match handler:
        case cst.Name(value=name):
            return name
        case cst.Lambda(body=body):
            inner = body.expression if isinstance(body, cst.Await) else body
            return dotted(inner.func) if isinstance(inner, cst.Call) else ""
        case cst.Call(func=function, args=[first, *_]) if dotted(function).endswith("partial"):
            return dotted(first.value)
    return ""


def _key(node: cst.Subscript) -> str:
    only = node.slice[0].slice if len(node.slice) == 1 else None
    return string(only.value) if isinstance(only, cst.Index) else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
