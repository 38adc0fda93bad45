"""Prefect: tasks become checkpoints, flows stay flows, pauses become waits."""

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
    snake,
    string,
)

_TASK = {"retries": "retries", "timeout_seconds": "timeout", "name": "name"}
_FLOW = {"name": "name", "retries": "retries"}
_PAUSES = frozenset(
    f"prefect.{place}{name}"
    for place in ("", "flow_runs.")
    for name in ("pause_flow_run", "suspend_flow_run")
)
_DROPPED = frozenset(
    [
        "log_prints",
        "description",
        "tags",
        "version",
        "persist_result",
        "task_run_name",
        "flow_run_name",
        "validate_parameters",
        "result_serializer",
        "result_storage",
        "viz_return_value",
    ]
)


class Prefect(Rewriter):
    """Rewrites programs of Prefect."""

    packages = ("prefect",)
    title = "Prefect flow"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._has_inputs = False

    def find(self) -> None:
        for function in functions(self.before):
            for decorator in decorators(function):
                match self.name_of(callee(decorator)):
                    case "prefect.flow" | "prefect.flows.flow":
                        self.flows[function.name.value] = function.name.value
                    case "prefect.task" | "prefect.tasks.task":
                        self.checkpoints[function.name.value] = {}

    def options(self, decorator: cst.BaseExpression, kind: str) -> dict[str, str]:
        known = _FLOW if kind == "flow" else _TASK
        options: dict[str, str] = {}
        for argument in decorator.args if isinstance(decorator, cst.Call) else ():
            option = argument.keyword.value if argument.keyword else ""
            value = argument.value
            if option == "name":
                options["name"] = (
                    f'"{_plain(string(value))}"' if string(value) else self.code(value)
                )
            elif option in known:
                options[known[option]] = self.code(value)
            elif option == "retry_delay_seconds":
                options |= self._delay(value)
            elif option not in _DROPPED:
                self.mark(f"`{option}={self.code(value)}` has no equivalent that is certain")
        if kind == "flow" and options.pop("retries", ""):
            self.mark("`retries` of a flow are those of its checkpoints: `@checkpoint(retries=…)`")
        return options

    def _delay(self, value: cst.BaseExpression) -> dict[str, str]:
        if isinstance(value, cst.Integer | cst.Float):
            return {"retry_delay": self.code(value), "backoff": "1"}
        self.mark(f"`retry_delay_seconds={self.code(value)}`: `retry_delay` and `backoff`")
        return {}

    def leave_ClassDef(
        self, original_node: cst.ClassDef, updated_node: cst.ClassDef
    ) -> cst.ClassDef:
        bases = [self.name_of(base.value) for base in original_node.bases]
        if not any(base.startswith("prefect.input") for base in bases):
            return updated_node
        self._has_inputs = True
        return updated_node.with_changes(bases=[cst.Arg(cst.Name("BaseModel"))])

    def is_awaitable(self, call: cst.Call) -> bool:
        name = dotted(call.func)
        return name.rpartition(".")[2] != "wait" and super().is_awaitable(call)

    def visit_Assign(self, node: cst.Assign) -> bool:
        if not self.logger and self._binds_logger(node):
            # Use one module-level logger instead, which can cross every cut.
            self.logger = dotted(node.targets[0].target)
        return True

    def leave_Assign(
        self, original_node: cst.Assign, updated_node: cst.Assign
    ) -> cst.Assign | cst.RemovalSentinel:
        same = dotted(original_node.targets[0].target) == self.logger
        gone = same and self._binds_logger(original_node)
        return cst.RemoveFromParent() if gone else updated_node

    def _binds_logger(self, node: cst.Assign) -> bool:
        value, target = node.value, dotted(node.targets[0].target)
        call = isinstance(value, cst.Call) and _is_logger(self.name_of(value.func))
        return call and target.isidentifier() and len(node.targets) == 1

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        name = self.name_of(original_node.func)
        written = dotted(original_node.func)
        if self.name_of(original_node.func).startswith("asyncio."):
            return self.common_call(original_node, updated_node)
        if _is_logger(name):
            return cst.Name(self.log())
        if name in _PAUSES:
            return self._waiting(original_node, updated_node)
        if written.rpartition(".")[2] in ("submit", "map") and given(original_node, "wait_for"):
            renamed = [
                a.with_changes(keyword=cst.Name("after"))
                if a.keyword and a.keyword.value == "wait_for"
                else a
                for a in updated_node.args
            ]
            return updated_node.with_changes(args=renamed)
        if written in self.flows and not self._in_flow():
            return self.start(written, self.arguments(updated_node), wait=True)
        if written.partition(".")[0] in self.flows:
            self.mark(f"`{written}` has no equivalent that is certain: `kitaru deploy`")
        return updated_node

    def _in_flow(self) -> bool:
        return any(f.name.value in self.flows for f in self._functions)

    def _waiting(self, original: cst.Call, updated: cst.Call) -> cst.BaseExpression:
        kind = given(updated, "wait_for_input") or next(iter(positional(updated)), None)
        key = string(given(original, "key"))
        schema = self.code(kind) if kind else "bool"
        if given(original, "timeout"):
            self.mark("a wait has no deadline")
        return self.wait(key or (snake(schema) if kind else "resume"), schema)

    def outside(self) -> list[str]:
        return ["from pydantic import BaseModel"] if self._has_inputs else []


def _is_logger(name: str) -> bool:
    return name in (
        "prefect.get_run_logger",
        "prefect.logging.get_run_logger",
        "prefect.logging.get_logger",
    )


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in name)
