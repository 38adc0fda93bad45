"""Complete what is being typed in a shell: executions, flows, targets, stacks.

Each function is called by click while the user presses TAB. It answers with what this directory and
its store hold. It never writes, imports no user code, and an error means no suggestion: a shell has
no place to show a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

VARIABLE = "_KITARU_COMPLETE"
_EXECUTIONS = 50

Found = Iterable[tuple[str, str]]
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completes(find: Callable[[click.Context, str], Found]) -> Complete:
    """Return click's form of a function that finds candidates and a help text for each."""

    def complete(
        context: click.Context, parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        try:
            found = list(find(context, typed))
        except Exception:
            return []
        return [CompletionItem(name, help=help) for name, help in found if name.startswith(typed)]

    return complete


def _executions(context: click.Context, typed: str) -> Found:
    from kitaru.cli.clients import reader_of
    from kitaru.runtime.executions.invocation_ref import LATEST

    listed = reader_of(context.params.get("store")).executions.list(limit=_EXECUTIONS)
    yield LATEST, "the one that started last"
    for item in listed:
        yield item["exec_id"], f"{item['flow']}, {item['status']}"


def _deployed(context: click.Context, typed: str) -> Found:
    from kitaru.cli.clients import reader_of

    for flow in reader_of(context.params.get("store")).deployments.flows():
        yield flow, ""


def _targets(context: click.Context, typed: str) -> Found:
    from kitaru_targets import registry

    for name in registry.names():
        yield name, registry.get(name).title


def _stacks(context: click.Context, typed: str) -> Found:
    from kitaru import config

    for name in config.stacks():
        yield name, ""


def flows(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete `path.py`, and `path.py:flow_name` once the path is there."""
    path, colon, name = typed.rpartition(":")
    if not colon or not path.endswith(".py"):
        return [CompletionItem(typed, type="file")]
    return [
        CompletionItem(f"{path}:{flow}") for flow in _flows_in(Path(path)) if flow.startswith(name)
    ]


def _flows_in(path: Path) -> list[str]:
    # Reading the file is enough: a flow is a function that a decorator called flow marks.
    import ast

    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f.name for f in functions if any(_is_flow(mark) for mark in f.decorator_list)]


def _is_flow(mark: object) -> bool:
    import ast

    called = mark.func if isinstance(mark, ast.Call) else mark
    if isinstance(called, ast.Attribute):
        return called.attr == "flow"
    return isinstance(called, ast.Name) and called.id == "flow"


executions = _completes(_executions)
deployed_flows = _completes(_deployed)
targets = _completes(_targets)
stacks = _completes(_stacks)


def answer(command: click.Group, instruction: str) -> int:
    """Answer the shell: `SHELL_source` wants its script, `SHELL_complete` the candidates.

    Returns the exit code, as click's protocol defines it.
    """
    from click.shell_completion import shell_complete

    return shell_complete(command, {}, "kitaru", VARIABLE, instruction)
