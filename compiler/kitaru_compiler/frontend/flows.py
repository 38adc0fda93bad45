"""Find the flows of a module, with their inputs and options."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, get_args

from kitaru.wire.names import suggestion
from kitaru.wire.plan import Parameter, ParameterType
from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.names import (
    INPUT_NAME_NOT_ALLOWED,
    RESERVED_INPUT,
    VARIABLE_INPUTS,
)
from kitaru_compiler.diagnostics.rules.source import (
    FLOW_NOT_IMPORTABLE,
    GENERATOR_FLOW,
    NO_FLOW,
    SEVERAL_FLOWS,
    UNKNOWN_FLOW,
)
from kitaru_compiler.frontend.names import Names, Symbol
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.nodes import CheckpointOptions
from kitaru_compiler.ir.scope import own_nodes

NATIVE_TYPES = frozenset(get_args(ParameterType)) - {"json"}
_RETRYING = frozenset({"retries", "retry_delay", "backoff", "retry_on"})
RESERVED_PREFIX = "kitaru_"
EXAMPLE = "from kitaru import flow\n\n@flow\ndef main() -> str: ..."


class FlowDefinition(Struct):
    """One `@flow` function of a module; `name` is set in its decorator, or equals `variable`.

    `options` are the arguments of the decorator. A helper of a flow is described in the same way.
    For a method, `owner` is its class. For a local function, `outer` is the function around it.
    """

    name: str
    variable: str
    source: Source
    definition: ast.FunctionDef | ast.AsyncFunctionDef
    options: tuple[ast.keyword, ...] = ()
    owner: str = ""
    outer: FlowDefinition | None = None

    def option(self, name: str) -> Any:
        """Return an argument of the decorator, None if it is absent or not a literal."""
        return {k.arg: literal_of(k.value)[1] for k in self.options}.get(name)

    @property
    def function(self) -> str:
        """The function's qualified name in its module."""
        name = self.definition.name
        if self.outer:
            return f"{self.outer.function}.<locals>.{name}"
        return f"{self.owner}.{name}" if self.owner else name

    @property
    def scope(self) -> str:
        """The name of its body's scope for `Names`: a method's scope is that of the module."""
        if self.outer:
            return self.outer.scope
        return "" if self.owner else self.definition.name


def find_flows(source: Source, names: Names) -> list[FlowDefinition]:
    """Return the flows defined at the top level of a module, in order."""
    found = []
    for stmt in source.tree.body:
        match stmt:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                symbol = names.lookup(source, name)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call()):
                symbol = names.lookup(source, name)
            case _:
                continue
        if symbol and symbol.kind == "flow" and symbol.source is source:
            definition = symbol.definition
            assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
            given = {k.arg: literal_of(k.value)[1] for k in symbol.options}.get("name")
            found.append(
                FlowDefinition(str(given or name), name, source, definition, symbol.options)
            )
    return found


def select_flow(
    source: Source, names: Names, wanted: str | None
) -> tuple[FlowDefinition | None, list[Diagnostic]]:
    """Return the flow named `wanted`, or the only flow; otherwise return diagnostics."""
    flows = find_flows(source, names)
    known = ", ".join(flow.name for flow in flows)
    if wanted:
        for flow in flows:
            if wanted in (flow.variable, flow.name):
                return flow, []
        message = f"there is no flow called `{wanted}` in {source.file}"
        fix = "decorate the function with @flow"
        if flows:
            fix = suggestion(wanted, [flow.name for flow in flows], f"flows here: {known}")
        return None, [Diagnostic(UNKNOWN_FLOW, source.span(source.tree), message, help=fix)]
    if not flows:
        return None, _no_flow(source, names)
    if len(flows) > 1:
        spans = tuple((source.span(flow.definition), flow.name) for flow in flows[1:])
        first = source.span(flows[0].definition)
        fix = f"name one: {source.file}:{flows[0].name}"
        message = f"{source.file} has {len(flows)} flows: {known}"
        return None, [Diagnostic(SEVERAL_FLOWS, first, message, flows[0].name, fix, spans)]
    return flows[0], []


def _no_flow(source: Source, names: Names) -> list[Diagnostic]:
    functions: list[ast.FunctionDef | ast.AsyncFunctionDef]
    functions = [*source.nodes.of(ast.FunctionDef), *source.nodes.of(ast.AsyncFunctionDef)]
    for node in sorted(functions, key=lambda function: function.lineno):
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            symbol = names.resolve(source, target)
            if symbol and symbol.kind == "primitive" and symbol.name == "flow":
                message = f"`{node.name}` is a flow, but a step could not import it by that name"
                fix = "define it once, at the module's top level, with @flow as its only decorator"
                return [Diagnostic(FLOW_NOT_IMPORTABLE, source.span(node), message, help=fix)]
    fix = f"decorate a function with @flow:\n\n{EXAMPLE}"
    message = f"{source.file} defines no flow"
    return [Diagnostic(NO_FLOW, source.span(source.tree), message, help=fix)]


def check_definition(flow: FlowDefinition) -> list[Diagnostic]:
    """Return the faults of the flow's own definition: generator, inputs."""
    source, definition = flow.source, flow.definition
    found: list[Diagnostic] = []
    for stmt in definition.body:
        for node in own_nodes(stmt):
            if isinstance(node, ast.Yield | ast.YieldFrom):
                message = f"`{flow.name}` is a generator: calling it would run nothing"
                fix = "collect the values in a list and return it"
                found.append(
                    Diagnostic(GENERATOR_FLOW, source.span(node), message, "yields here", fix)
                )
    arguments = definition.args
    for extra in (arguments.vararg, arguments.kwarg):
        if extra:
            message = f"`{extra.arg}` takes any number of inputs; a pipeline has a fixed list"
            fix = f"name each input, or take one `{extra.arg}: list` or `dict`"
            found.append(Diagnostic(VARIABLE_INPUTS, source.span(extra), message, help=fix))
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.arg.startswith(RESERVED_PREFIX):
            whose = f"names that start with `{RESERVED_PREFIX}` are Kitaru's own"
            message = f"input `{argument.arg}`: {whose}"
            span = source.span(argument)
            found.append(Diagnostic(RESERVED_INPUT, span, message, help="rename the input"))
        elif not argument.arg.isascii():
            message = f"input `{argument.arg}`: a pipeline's parameter has an ASCII name"
            fix = "use ASCII letters, digits and underscores"
            found.append(
                Diagnostic(INPUT_NAME_NOT_ALLOWED, source.span(argument), message, help=fix)
            )
    return found


def parameters(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[Parameter, ...]:
    """Return the flow's inputs in the form of the plan."""
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    found = []
    for index, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        only = index < len(arguments.posonlyargs)
        kind = "positional_only" if only else "positional_or_keyword"
        found.append(_parameter(argument, kind, default))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(_parameter(argument, "keyword_only", default))
    return tuple(found)


def _parameter(argument: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    literal, value = literal_of(default)
    if isinstance(argument.annotation, ast.Constant) and isinstance(argument.annotation.value, str):
        annotation = argument.annotation.value
    type_: Any = annotation if annotation in NATIVE_TYPES else "json"
    if literal and not _travels(value, type_):
        literal, value = (True, value) if type_ == "json" and _is_json(value) else (False, None)
    return Parameter(argument.arg, kind, type_, annotation, default is None, literal, value)


def literal_of(expression: ast.expr | None) -> tuple[bool, Any]:
    """Return whether `expression` is a literal, and its value."""
    if expression is None:
        return False, None
    try:
        return True, ast.literal_eval(expression)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None


def _travels(value: Any, type_: str) -> bool:
    return type(value).__name__ == type_


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return value == value and abs(value) != float("inf")
        case list():
            return all(map(_is_json, value))
        case dict():
            return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    return False


def every_checkpoint(names: Names) -> tuple[CheckpointOptions, ...]:
    """Return the options of every checkpoint that the project's sources define."""
    found = []
    for source in filter(None, names.project.sources.values()):
        for node in source.nodes.of(ast.Call):
            made = names.resolve(source, node.func)
            if made and (made.kind, made.name) == ("primitive", "checkpoint"):
                found.append(_options("checkpoint", node.keywords))
    return tuple(found)


def checkpoint_options(
    symbol: Symbol, inherited: tuple[ast.keyword, ...] = ()
) -> CheckpointOptions:
    """Return the literal arguments of a checkpoint's decorator; `inherited` are the flow's.

    None means that an argument is not set.
    """
    assert isinstance(symbol.definition, ast.FunctionDef | ast.AsyncFunctionDef)
    return _options(symbol.definition.name, symbol.options, inherited)


def _options(
    function: str, options: Sequence[ast.keyword], inherited: tuple[ast.keyword, ...] = ()
) -> CheckpointOptions:
    retrying = [keyword for keyword in inherited if keyword.arg in _RETRYING]
    said = (k for k in (*retrying, *options) if literal_of(k.value) != (True, None))
    given = {k.arg: k.value for k in said}
    values = {name: literal_of(value)[1] for name, value in given.items() if name}

    def text(key: str) -> str:
        return "" if values.get(key) is None else str(values[key])

    def count(key: str) -> int:
        value = values.get(key)
        return value if type(value) is int and value > 0 else 0

    def number(key: str, default: float) -> float:
        value = values.get(key)
        return value if isinstance(value, int | float) and value >= default else default

    return CheckpointOptions(
        name=text("name") or function,
        retries=count("retries"),
        retry_delay=number("retry_delay", 0),
        backoff=number("backoff", 2),
        native_retry=all(
            name != "retry_on" and literal_of(value)[0]
            for name, value in given.items()
            if name is None or name in _RETRYING
        ),
        runtime=text("runtime") or None,
        cpu=text("cpu"),
        memory=text("memory"),
        gpu=count("gpu"),
        pickle=values.get("pickle") is True,
    )
