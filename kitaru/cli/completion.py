"""Shell completion of executions, flows, targets and stacks.

Click calls these functions when the user presses TAB. They read this directory and its store, write
nothing and import no user code. An error means no suggestion, since a shell cannot show a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_KITARU_COMPLETE"
_EXECUTIONS = 50

Found = Iterable[tuple[str, str]]
Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _completes(find: Callable[[click.Context, str], Found]) -> Complete:
    """Wrap a function that yields candidates with help texts, in the form that click expects."""

    def complete(
        context: click.Context, parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

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
    yield LATEST, "the execution that started last"
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
    """Complete `path.py`, then `path.py:flow_name`."""
    from click.shell_completion import CompletionItem

    path, colon, name = typed.rpartition(":")
    if not colon or not path.endswith(".py"):
        return [CompletionItem(typed, type="file")]
    return [
        CompletionItem(f"{path}:{flow}") for flow in _flows_in(Path(path)) if flow.startswith(name)
    ]


def _flows_in(path: Path) -> list[str]:
    # Parsing the file is enough: a flow is a function with a decorator named flow.
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
    """Answer the shell: `SHELL_source` asks for the script, `SHELL_complete` for candidates.

    Returns the exit code, as click's protocol defines it.
    """
    from click.shell_completion import shell_complete

    return shell_complete(command, {}, "kitaru", VARIABLE, instruction)
