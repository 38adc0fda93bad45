"""The modules in which the code of a compiled flow runs: its own, or that of a helper."""

from __future__ import annotations

import ast
from types import ModuleType
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.wire import importing
from kitaru.wire.plan import Activation, Plan
from kitaru.wire.structs import Struct


class Home(Struct):
    """The function that blocks belong to: `function` is its qualified name in `module`.

    `called` is None for the flow itself.
    """

    module: ModuleType
    file: str
    function: str
    futures: tuple[str, ...]
    called: Activation | None = None

    @property
    def name(self) -> str:
        """The function's name without enclosing classes."""
        return self.function.rpartition(".")[2]


def homes_of(plan: Plan, module: ModuleType, futures: tuple[str, ...]) -> dict[str, Home]:
    """Return the home of each activation by name; `module` is the flow's, with its `futures`.

    Raises:
        EnvironmentFailure: a helper is missing, or is not the compiled function.
    """
    homes = {"": Home(module, module.__file__ or plan.file, plan.flow, futures)}
    for called in plan.activations:
        home = module if called.module == plan.module else _loaded(called)
        _check(called, home)
        file = home.__file__ or called.file
        homes[called.name] = Home(home, file, called.function, called.futures, called)
    return homes


def call_of(called: Activation, is_async: bool) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return a function that runs a helper's block from the user's call of the helper."""
    text = "def call(run, frame): return run(frame)"
    if is_async:
        text = "async def call(run, frame): return await run(frame)"
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.name = call_name(called)
    for node in ast.walk(function):
        if isinstance(node, ast.expr | ast.stmt | ast.arg):
            place = called.call
            node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = place
    return function


def call_name(called: Activation) -> str:
    """Return the name of the function from `call_of`, which no block can have."""
    return f"{called.name}()"


def _loaded(called: Activation) -> ModuleType:
    try:
        return importing.load(called.module)
    except ImportError as error:
        raise EnvironmentFailure(
            f"The module {called.module} cannot be imported: {error}.",
            help="Compile the flow again where the project is complete.",
        ) from error


def _check(called: Activation, module: ModuleType) -> None:
    # A local function exists only while the function around it runs.
    function = called.function.partition(".<locals>.")[0]
    found: Any = module
    for part in function.split("."):
        found = getattr(found, part, None)
    # A flow called in a flow.
    found = getattr(found, "function", found)
    if getattr(getattr(found, "__code__", None), "co_qualname", "") != function:
        raise EnvironmentFailure(
            f"{called.module}.{function} is not the function of {called.file}:"
            f"{called.line} that was compiled: something replaces it when it is imported.",
            help="Decorate it where it is defined; then it stays one call in one step.",
        )
