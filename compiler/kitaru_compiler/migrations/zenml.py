"""ZenML: steps become checkpoints, pipelines become flows."""

from __future__ import annotations

import libcst as cst

from kitaru_compiler.fixes.module import dotted
from kitaru_compiler.migrations.rewriter import (
    Rewriter,
    callee,
    decorators,
    functions,
    given,
    string,
)

_RETRY = {"max_retries": "retries", "delay": "retry_delay", "backoff": "backoff"}
_DROPPED = (
    "enable_artifact_metadata",
    "enable_artifact_visualization",
    "enable_step_logs",
    "extra",
)


class Zenml(Rewriter):
    """Rewrites programs of ZenML."""

    packages = ("zenml",)
    title = "ZenML pipeline"

    def find(self) -> None:
        for function in functions(self.before):
            for decorator in decorators(function):
                match self.name_of(callee(decorator)).rpartition(".")[2]:
                    case "pipeline" if self.is_theirs(self.name_of(callee(decorator))):
                        self.flows[function.name.value] = function.name.value
                    case "step" if self.is_theirs(self.name_of(callee(decorator))):
                        self.checkpoints[function.name.value] = {}

    def options(self, decorator: cst.BaseExpression, kind: str) -> dict[str, str]:
        options: dict[str, str] = {}
        for argument in decorator.args if isinstance(decorator, cst.Call) else ():
            option = argument.keyword.value if argument.keyword else ""
            value = argument.value
            if option == "enable_cache":
                options["cache"] = self.code(value)
            elif option == "name" and string(value):
                options["name"] = self.code(value)
            elif option == "retry" and isinstance(value, cst.Call):
                for inner in value.args:
                    known = _RETRY.get(inner.keyword.value if inner.keyword else "")
                    if known:
                        options[known] = self.code(inner.value)
            elif option not in _DROPPED:
                self.mark(
                    f"`{option or 'argument'}={self.code(value)}` has no equivalent that is certain"
                )
        return options

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        written = dotted(original_node.func)
        if self.name_of(original_node.func).startswith("asyncio."):
            return self.common_call(original_node, updated_node)
        if self.name_of(original_node.func) == "zenml.logger.get_logger":
            self.added.add("logging")
            return self.call("logging.getLogger", [self.code(a.value) for a in updated_node.args])
        last = written.rpartition(".")[2]
        if last in self.checkpoints and given(original_node, "after"):
            return updated_node
        inside = any(f.name.value in self.flows for f in self._functions)
        if written in self.flows and not inside:
            return self.start(written, self.arguments(updated_node), wait=True)
        first = written.partition(".")[0]
        if "." in written and first in self.flows.keys() | self.checkpoints.keys():
            self.mark(f"`{written}` has no equivalent that is certain")
        return updated_node
