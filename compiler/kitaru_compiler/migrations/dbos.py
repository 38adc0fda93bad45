"""DBOS: steps become checkpoints, workflows become flows, `recv` becomes a wait."""

from __future__ import annotations

import libcst as cst

from kitaru_compiler.fixes.module import dotted
from kitaru_compiler.migrations.rewriter import (
    Rewriter,
    callee,
    decorators,
    functions,
    given,
    positional,
    string,
)

_D = "dbos.DBOS."
_STEPS = (f"{_D}step", f"{_D}transaction")


class Dbos(Rewriter):
    """Rewrites programs of DBOS Transact."""

    packages = ("dbos",)
    title = "DBOS workflow"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._started: set[str] = set()
        self._queues: set[str] = set()
        self._submitted_names: set[str] = set()

    def find(self) -> None:
        for function in functions(self.before):
            for decorator in decorators(function):
                name = self.name_of(callee(decorator))
                if name == f"{_D}workflow":
                    self.flows[function.name.value] = function.name.value
                elif name in _STEPS:
                    self.checkpoints[function.name.value] = {}

    def options(self, decorator: cst.BaseExpression, kind: str) -> dict[str, str]:
        if self.name_of(callee(decorator)) == f"{_D}transaction":
            self.mark("transaction and record were one commit; here they are two")
        if kind == "flow" or not isinstance(decorator, cst.Call):
            return {}
        options: dict[str, str] = {}
        allowed = given(decorator, "retries_allowed")
        if allowed is not None and dotted(allowed) == "True":
            attempts = given(decorator, "max_attempts")
            if attempts is None:
                options["retries"] = "2"
            elif isinstance(attempts, cst.Integer):
                options["retries"] = str(attempts.evaluated_value - 1)
            else:
                options["retries"] = f"{self.code(attempts)} - 1"
            for theirs, ours in (("interval_seconds", "retry_delay"), ("backoff_rate", "backoff")):
                if value := given(decorator, theirs):
                    options[ours] = self.code(value)
        return options

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        return (
            cst.Name(self.log()) if self.name_of(original_node) == f"{_D}logger" else updated_node
        )

    def leave_Assign(
        self, original_node: cst.Assign, updated_node: cst.Assign
    ) -> cst.Assign | cst.RemovalSentinel:
        value, target = original_node.value, dotted(original_node.targets[0].target)
        call = value.expression if isinstance(value, cst.Await) else value
        if isinstance(call, cst.Call):
            name = self.name_of(call.func)
            if name == "dbos.Queue":
                self._queues.add(target)
                self.objects.add(target)
                return cst.RemoveFromParent()
            if name.startswith(f"{_D}start_workflow"):
                self._started.add(target)
            if dotted(call.func).rpartition(".")[0] in self._queues:
                self._submitted_names.add(target)
        return updated_node

    def leave_AnnAssign(
        self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign
    ) -> cst.AnnAssign | cst.RemovalSentinel:
        value = original_node.value
        if isinstance(value, cst.Call) and self.name_of(value.func) == "dbos.DBOSConfig":
            return cst.RemoveFromParent()
        theirs = dotted(original_node.annotation.annotation)
        return (
            cst.RemoveFromParent()
            if self.imports.get(theirs) == "dbos.DBOSConfig"
            else updated_node
        )

    def leave_Expr(
        self, original_node: cst.Expr, updated_node: cst.Expr
    ) -> cst.Expr | cst.RemovalSentinel:
        call = original_node.value
        if isinstance(call, cst.Call) and self.name_of(call.func) in (
            "dbos.DBOS",
            f"{_D}launch",
            f"{_D}destroy",
        ):
            return cst.RemoveFromParent()
        return updated_node

    def is_awaitable(self, call: cst.Call) -> bool:
        last = dotted(call.func).rpartition(".")[2]
        return last != "get_result" and super().is_awaitable(call)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        name = self.name_of(original_node.func).removesuffix("_async")
        written = dotted(original_node.func)
        owner, _, last = written.rpartition(".")
        inside = any(f.name.value in self.flows for f in self._functions)
        if name == f"{_D}sleep":
            return self.paused(updated_node.args[0].value)
        if name == f"{_D}recv":
            topic = string(next(iter(positional(original_node)), None)) or string(
                given(original_node, "topic")
            )
            self.mark("set the schema of the answer; a wait has no deadline")
            return self.wait(topic or "message", "str")
        if name == f"{_D}start_workflow":
            first = dotted(positional(original_node)[0]) if positional(original_node) else ""
            if first in self.flows and not inside:
                return self.start(first, self.arguments(updated_node, 1), wait=False)
        if owner in self._queues and last in ("enqueue", "enqueue_async"):
            first = dotted(positional(original_node)[0]) if positional(original_node) else ""
            if first in self.checkpoints:
                return self.call(f"{first}.submit", self.arguments(updated_node, 1))
            self.mark("only checkpoints are submitted: `.submit(…)` and `max_parallel`")
        if last == "get_result" and owner in self._started:
            return self.call(f"{owner}.wait", [])
        if last == "get_result" and inside:
            return updated_node.with_changes(
                func=cst.Attribute(_owner(updated_node), cst.Name("result"))
            )
        if written in self.flows and not inside:
            return self.start(written, self.arguments(updated_node), wait=True)
        return self.common_call(original_node, updated_node)


def _owner(call: cst.Call) -> cst.BaseExpression:
    assert isinstance(call.func, cst.Attribute)
    return call.func.value
