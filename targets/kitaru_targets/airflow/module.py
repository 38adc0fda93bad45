"""The files next to a DAG: the module with its operators, and the program that starts a step.

All DAGs of one version of Kitaru share them. Their names contain a digest of their content, so DAGs
of different versions are independent of each other.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

from kitaru_templates.render import render

from kitaru.wire.canonical import sha256
from kitaru_targets import delivery

_DIGITS = 8


@cache
def text(*, pods: bool) -> str:
    """Return the module whose steps run in pods, or as processes of the worker."""
    return render("airflow_module.py.j2", {"pods": pods})


def name(*, pods: bool) -> str:
    """Return the name of the module.

    >>> name(pods=False).startswith("kitaru_airflow_")
    True
    """
    return f"kitaru_airflow_{'pods_' if pods else ''}{_digest(text(pods=pods))}"


def program() -> str:
    """Return the name of the file with the program that starts a step."""
    return f"kitaru_start_{_digest(delivery.program())}.py"


def _digest(content: str) -> str:
    return sha256(content.encode()).removeprefix("sha256:")[:_DIGITS]


def functions(*, pods: bool, outcome: str = "") -> dict[str, Any]:
    """Return the module's functions, which run without Airflow; steps write the file `outcome`."""
    kinds = (ast.FunctionDef, ast.Import)
    body = [node for node in ast.parse(text(pods=pods)).body if isinstance(node, kinds)]
    namespace: dict[str, Any] = {"OUTCOME": outcome, "NOTHING_TO_DO": NOTHING_TO_DO}
    exec(compile(ast.Module([*body], []), "kitaru_airflow.py", "exec"), namespace)
    return namespace


# The exit code of a step without work, as in the module.
NOTHING_TO_DO = 99
