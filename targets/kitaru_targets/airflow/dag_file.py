"""A DAG file as data: the options and the tasks in a fixed frame.

A file is read from its syntax tree. Every node that is not a literal in a place for literals must
be equal to the node of the template.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

TEMPLATE = "airflow_dag.py.j2"
Method = Literal["step", "each", "ask", "group"]
_NAMES = [("Flow", None), ("program", None)]
_FLOW = {"start", "environment", "options"}
DAG = frozenset({"dag_id", "description", "schedule", "params"})
DAG_FURTHER = frozenset({"max_active_runs"})


class Program(str):
    """The name of a file next to the document, whose text is an argument."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A task or a group of tasks.

    `step` runs a step, `each` runs a step per item, `ask` asks a wait's question, and `group`
    contains tasks.
    """

    id: str
    method: Method
    options: dict[str, Any]

    @property
    def after(self) -> dict[str, str]:
        """The tasks before this one, each with the condition of the way from it."""
        found: dict[str, str] = self.options["after"]
        return found


@dataclass(frozen=True, slots=True)
class DagFile:
    """The parts that differ between files.

    `module` is the module with the operators. `flow` are the options of all tasks. `dag` are those
    of the DAG. `params` by name contain the `schema`, the `description` and, unless the parameter
    is required, the `default`. `tasks` are in program order, without the `groups`.
    """

    module: str
    flow: dict[str, Any]
    dag: dict[str, Any]
    params: dict[str, dict[str, Any]]
    tasks: tuple[Task, ...]
    groups: tuple[Task, ...]

    @property
    def pods(self) -> bool:
        """Whether the steps run in pods."""
        return "pod" in self.flow


def read(text: str) -> DagFile:
    """Return the content of a file.

    Raises ValueError, KeyError or SyntaxError if the template cannot produce the file.
    """
    body = ast.parse(text).body
    if len(body) != 4 or ast.unparse(body[0]) != "from airflow.sdk import Param":
        raise ValueError("the file is not the one that its template makes")
    _, module, flow, dag = body
    options, statements = _dag(dag)
    if missing := sorted(DAG - options.keys()):
        raise ValueError(f"its DAG does not have the option {missing[0]}")
    params = options.pop("params")
    every = [_task(node) for node in statements]
    return DagFile(
        _module(module),
        _flow(flow),
        options,
        params,
        tuple(task for task in every if task.method != "group"),
        tuple(task for task in every if task.method == "group"),
    )


def _module(node: ast.stmt) -> str:
    match node:
        case ast.ImportFrom(module=str(name), names=names, level=0):
            if [(n.name, n.asname) for n in names] in (_NAMES[:1], _NAMES):
                return name
    raise ValueError(f"line {node.lineno}: here belongs the import of Flow")


def _flow(node: ast.stmt) -> dict[str, Any]:
    match node:
        case ast.Assign(
            targets=[ast.Name(id="flow")],
            value=ast.Call(func=ast.Name(id="Flow"), args=[], keywords=keywords),
        ):
            found = _options(keywords)
            if found.keys() - {"pod"} == _FLOW:
                return found
    raise ValueError(f"line {node.lineno}: here belongs flow = Flow(…)")


def _dag(node: ast.stmt) -> tuple[dict[str, Any], list[ast.stmt]]:
    """Return the options of `with flow.dag(…):`, and the statements in it."""
    match node:
        case ast.With(
            items=[
                ast.withitem(
                    context_expr=ast.Call(func=func, args=[], keywords=keywords),
                    optional_vars=None,
                )
            ],
            body=body,
        ) if _method(func) == "dag":
            return _options(keywords), body
    raise ValueError(f"line {node.lineno}: here belongs one DAG")


def _task(node: ast.stmt) -> Task:
    match node:
        case ast.Expr(ast.Call(func=func, args=[ast.Constant(str(name))], keywords=keywords)):
            for method in get_args(Method):
                if _method(func) == method:
                    return Task(name, method, _options(keywords))
    raise ValueError(f"line {node.lineno}: here belongs a step, an each, an ask or a group")


def _method(node: ast.expr) -> str:
    match node:
        case ast.Attribute(value=ast.Name(id="flow"), attr=name):
            return name
    return ""


def _options(keywords: list[ast.keyword]) -> dict[str, Any]:
    return dict(_pairs(keywords))


def _pairs(keywords: list[ast.keyword]) -> Iterator[tuple[str, Any]]:
    for keyword in keywords:
        yield str(keyword.arg), _value(keyword.value)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.List(elts=parts):
            return [_value(part) for part in parts]
        case ast.Call(func=ast.Name(id="program"), args=[ast.Constant(str(name))], keywords=[]):
            return Program(name)
        case ast.Dict(keys=keys, values=values) if any(isinstance(v, ast.Call) for v in values):
            names = [ast.literal_eval(key) if key else None for key in keys]
            return dict(zip(names, map(_param, values), strict=True))
    return ast.literal_eval(node)


def _param(node: ast.expr) -> dict[str, Any]:
    match node:
        case ast.Call(func=ast.Name(id="Param"), args=args, keywords=keywords) if len(args) < 2:
            found = {str(k.arg): ast.literal_eval(k.value) for k in keywords}
            return {**found, "default": ast.literal_eval(args[0])} if args else found
    raise ValueError(f"line {node.lineno}: here belongs Param(…)")
