"""A DAG file as data: the constants, parameters and tasks in a fixed frame.

A file is read from its syntax tree. Every node that is not a literal in a place for literals must
be equal to the node of the template.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from kitaru_templates.render import render

TEMPLATE = "airflow_dag.py.j2"
_OWN = {"COMMAND", "ENVIRONMENT", "INPUTS", "NOTHING_TO_DO", "OPTIONS", "OUTCOME", "ROW"}
_CONSTANTS = frozenset({*_OWN, "IMAGE", "POD"})
_EMPTY: dict[str, Any] = {
    "command": [],
    "environment": {},
    "inputs": [],
    "options": {},
    "pod": {},
    "dag_id": "",
    "description": "",
    "schedule": None,
    "params": [],
    "tasks": [],
}


@dataclass(frozen=True, slots=True)
class Task:
    """A task: `Step` runs a step, `Each` runs a step per item, `Ask` asks a wait's question."""

    id: str
    operator: Literal["Step", "Each", "Ask"]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DagFile:
    """The parts that differ between files.

    `constants` are by name. `dag` are the options of the DAG. `params` by name contain the
    `schema`, the `description` and, unless the parameter is required, the `default`. `tasks` form a
    chain. `functions` is the source of the functions that compute values for a step.
    """

    constants: dict[str, Any]
    dag: dict[str, Any]
    params: dict[str, dict[str, Any]]
    tasks: tuple[Task, ...]
    functions: ast.Module


def read(text: str) -> DagFile:
    """Return the content of a file.

    Raises ValueError, KeyError or SyntaxError if the template cannot produce the file.
    """
    *frame, last = ast.parse(text).body
    constants = _blank(frame)
    if not _is_frame(frame, pods="IMAGE" in constants):
        raise ValueError("the file is not the one that its template makes")
    functions = [*filter(lambda node: isinstance(node, (ast.Import, ast.FunctionDef)), frame)]
    dag, chain = _dag(last)
    params = dag.pop("params")
    tasks = tuple(_task(node) for node in chain)
    return DagFile(constants, dag, params, tasks, ast.Module(functions, []))


def _blank(frame: list[ast.stmt]) -> dict[str, Any]:
    """Remove the values of the constants from the frame, and return them by name."""
    constants = {}
    for node in frame:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _CONSTANTS:
                constants[name] = ast.literal_eval(value)
                node.value = ast.Constant(None)
    return constants


def _is_frame(frame: list[ast.stmt], *, pods: bool) -> bool:
    return ast.dump(ast.Module(frame, [])) == _frame(pods)


@cache
def _frame(pods: bool) -> str:
    *frame, _ = ast.parse(render(TEMPLATE, {**_EMPTY, "image": "image" if pods else ""})).body
    _blank(frame)
    return ast.dump(ast.Module(frame, []))


def _dag(node: ast.stmt) -> tuple[dict[str, Any], list[ast.expr]]:
    """Return the options of `with Flow(…): chain(…)`, and the nodes of the tasks."""
    match node:
        case ast.With(
            items=[ast.withitem(context_expr=made, optional_vars=ast.Name(id="dag"))],
            body=[ast.Expr(ast.Call(func=ast.Name(id="chain"), args=chain, keywords=[]))],
        ):
            return _options(made, "Flow"), chain
    raise ValueError(f"line {node.lineno}: here belongs one DAG with one chain of tasks")


def _task(node: ast.expr) -> Task:
    match node:
        case ast.Call(func=ast.Name(id="Each"), args=[ast.Name(id="dag")], keywords=keywords):
            options = {str(k.arg): ast.literal_eval(k.value) for k in keywords}
            return Task(options.pop("task_id"), "Each", options)
        case ast.Call(func=ast.Name(id="Step" | "Ask" as name)):
            options = _options(node, name)
            return Task(options.pop("task_id"), name, options)
    raise ValueError(f"line {node.lineno}: here belongs a Step, an Each or an Ask")


def _options(node: ast.expr, function: str) -> dict[str, Any]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if name == function:
            return {str(k.arg): _value(k.value) for k in keywords}
    raise ValueError(f"line {node.lineno}: here belongs {function}(…)")


def _value(node: ast.expr) -> Any:
    match node:
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
