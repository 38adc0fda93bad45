"""A use case is one function: the client and the command line call the same one.

The test walks every command and every public method of the client. A command that no method
answers, an option that no parameter answers, and a method that no command answers each fail, unless
they are listed here with a reason.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from kitaru.cli.app import cli
from kitaru.client import (
    DeployedFlows,
    Events,
    Executions,
    KitaruClient,
    Notifications,
    Schedules,
    Tokens,
)
from kitaru.compat.client import Artifacts
from kitaru.memory import Memories

PACKAGE = Path(__file__).parents[2] / "kitaru"
PLACES: dict[str, type] = {
    "": KitaruClient,
    "executions": Executions,
    "deployments": DeployedFlows,
    "schedules": Schedules,
    "events": Events,
    "memory": Memories,
    "artifacts": Artifacts,
    "tokens": Tokens,
    "notifications": Notifications,
}
# By command, the methods that together do what it does.
SAME = {
    "run": "run",
    "check": "check fix",
    "migrate": "migrate",
    "compile": "compile compile_all explain",
    "dry-run": "dry_run",
    "evaluate": "evaluate",
    "graph": "graph",
    "diff": "diff diff_deployed",
    "verify": "verify",
    "build": "build_image",
    "explain": "fingerprint",
    "deploy": "deployments.deploy",
    "invoke": "deployments.invoke deployments.dry_run",
    "flow list": "deployments.flows deployments.list deployments.tags",
    "flow show": "deployments.list deployments.get",
    "flow tag": "deployments.tag",
    "flow untag": "deployments.untag",
    "events send": "events.send",
    "events list": "events.list",
    "events triggers": "events.triggers",
    "events get": "events.get",
    "schedule create": "schedules.create",
    "schedule list": "schedules.list",
    "schedule get": "schedules.get",
    "schedule next": "schedules.next",
    "schedule pause": "schedules.pause",
    "schedule resume": "schedules.resume",
    "schedule delete": "schedules.delete",
    "schedule trigger": "schedules.trigger",
    "tokens create": "tokens.create",
    "tokens list": "tokens.list",
    "tokens revoke": "tokens.revoke",
    "notifications list": "notifications.list",
    "notifications channels": "notifications.channels",
    "notifications test": "notifications.test",
    "audit": "audit",
    "executions list": "executions.page executions.list executions.each",
    "executions get": "executions.get executions.latest executions.pending_waits",
    "executions input": "executions.input executions.abort executions.abort_wait",
    "executions resume": "executions.resume executions.write_residual executions.dry_run",
    "executions signal": "executions.signal",
    "executions retry": "executions.retry executions.retry_many",
    "executions cancel": "executions.cancel executions.cancel_many",
    "executions replay": "executions.replay executions.replay_many executions.write_residual",
    "executions diff": "executions.diff",
    "executions lineage": "executions.lineage",
    "executions export": "executions.export",
    "executions import": "executions.import_execution",
    "executions logs": "executions.logs",
    "executions calls": "executions.calls",
    "artifacts list": "artifacts.list",
    "artifacts get": "artifacts.list artifacts.get artifacts.url",
    "memory get": "memory.get memory.entry memory.show",
    "memory set": "memory.set",
    "memory list": "memory.list",
    "memory history": "memory.history",
    "memory delete": "memory.delete",
    "memory purge": "memory.purge",
    "memory compact": "memory.compact",
    "memory scope list": "memory.scopes",
    "model usage": "model_usage",
    "dispatcher run": "dispatch",
    "dispatcher status": "due",
    "store check": "check_store",
    "store verify": "verify_store",
    "store backup": "backup",
    "store restore": "restore",
    "store upload": "upload",
    "store gc": "executions.collect",
}
# They are about this machine's configuration, or about Kitaru itself.
COMMANDS_ALONE = {
    "init": "writes an example",
    "target list": "describes Kitaru",
    "lsp": "an editor talks to it: kitaru.ops.editor.Document",
    "mcp": "a process that answers requests: kitaru.server",
    "serve": "a process that answers requests: kitaru.server",
    "model list": "settings: kitaru.configure",
    "model register": "settings: kitaru.configure",
    **dict.fromkeys(
        ("stack create", "stack current", "stack delete", "stack list", "stack show", "stack use"),
        "settings: kitaru.create_stack, list_stacks, current_stack, use_stack",
    ),
    **dict.fromkeys(
        ("secrets set", "secrets show", "secrets list", "secrets delete"),
        "secrets: kitaru.create_secret, get_secret, delete_secret",
    ),
}
METHODS_ALONE = {
    "executions.statistics": "counts what `executions list` lists",
    "deployments.read": "a file of a version; `invoke` and `flow show` read those they need",
    "deployments.add": "what `deploy` does with a build",
    "memory.configure": "the setting memory_scope, and --scope",
}
# How an answer is shown, or who is asked, is the caller's; --store is the client's.
SHOWN = {"store", "form", "full", "file", "no_input", "no_wait", "opens", "exclusive"}
ALIASES = {
    "execution": "exec_id",
    "pairs": "inputs",
    "inputs_from": "inputs",
    "answers": "answers",
    "sets": "options",
    "tags": "tag",
    "url": "self",
    "wheres": "where",
    "executions logs follow": "follow",
    "run no_cache": "cache",
    "evaluate specs": "evaluators",
    # A method of the result: `Evaluation.below`.
    "evaluate minimums": "self",
    "explain code": "checkpoint",
    "check strict": "self",
    "check fix": "self",
    "compile explained": "self",
    "diff deployed": "exec_id",
    "invoke name": "flow",
    "invoke local": "answers",
    "flow show name": "name",
    "executions list number": "page",
    # An ExecutionView has pages: `overview(limit=, after=)`.
    "executions get limit": "self",
    "executions get after": "self",
    # A method returns all of them, or yields them.
    "executions logs skip": "self",
    "executions lineage limit": "self",
    "executions lineage skip": "self",
    "artifacts get is_url": "self",
    "artifacts get expires": "lifetime",
    "artifacts list limit": "self",
    "artifacts list skip": "self",
    "memory list limit": "self",
    "memory list skip": "self",
    "executions list status": "status",
    "executions input abort": "self",
    # `limit=`; a method does it, and lists nothing first.
    "executions replay yes": "self",
    "executions cancel yes": "self",
    "executions retry yes": "self",
    # Newer executions are replayed once: a program continues with a filter.
    "executions replay after": "self",
    "invoke named": "tags",
    "run tags": "tags",
    "executions replay at": "at_failure",
    "executions replay sets": "results",
    "executions resume submit": "self",
    # A method runs once. A program that dispatches for ever uses kitaru.ops.dispatch.
    "dispatcher run once": "self",
    "flow untag name": "flow",
    "flow tag version": "name",
    "memory get at": "at",
}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, (*path, name))


COMMANDS = dict(leaves(cli))


def method(name: str) -> Callable[..., Any]:
    place, _, last = name.rpartition(".")
    found = inspect.getattr_static(PLACES[place], last)
    return found.__func__ if isinstance(found, staticmethod) else found  # type: ignore[no-any-return]


def public() -> set[str]:
    """Return the names of all public methods of the client and what it offers."""
    return {
        f"{place}.{name}".lstrip(".")
        for place, owner in PLACES.items()
        for name, value in inspect.getmembers_static(owner)
        if not name.startswith("_") and (callable(value) or isinstance(value, staticmethod))
    }


def operations(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the functions of `kitaru.ops` that code imports, as (module, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kitaru.ops."):
            yield from ((str(node.module), alias.name) for alias in node.names)


@cache
def command_sources() -> list[str]:
    return [path.read_text("utf-8") for path in (PACKAGE / "cli").rglob("*.py")]


@cache
def called_by_commands() -> set[tuple[str, str]]:
    return {one for text in command_sources() for one in operations(ast.parse(text))}


def test_what_a_command_can_do_a_program_can_do() -> None:
    assert set(COMMANDS) == set(SAME) | set(COMMANDS_ALONE)
    assert not set(SAME) & set(COMMANDS_ALONE)


def test_what_a_program_can_do_a_command_can_do() -> None:
    named = {name for names in SAME.values() for name in names.split()}
    assert public() == named | METHODS_ALONE.keys()


@pytest.mark.parametrize("command", SAME)
def test_every_option_of_a_command_is_a_parameter_of_the_method(command: str) -> None:
    methods = [method(name) for name in SAME[command].split()]
    known = {name for one in methods for name in inspect.signature(one).parameters} | {"self"}
    for parameter in COMMANDS[command].params:
        name = str(parameter.name)
        if name in SHOWN | {"json", "stack", "help"}:
            continue
        alias = ALIASES.get(f"{command} {name}") or ALIASES.get(name) or name
        assert alias in known, f"kitaru {command}: {name}"


@pytest.mark.parametrize("name", sorted(public()))
def test_the_client_and_the_command_line_call_the_same_operation(name: str) -> None:
    function = inspect.unwrap(method(name))
    if not inspect.isfunction(function):
        return
    found = set(operations(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    modules = {module for module, _ in called_by_commands()}
    through_client = any(f"{name}(" in text for text in command_sources())
    assert through_client or {module for module, _ in found} <= modules, name


CHANGING = {
    "executions.input": ("answer", "answer"),
    "executions.abort": ("cancel", "abort"),
    "executions.cancel": ("cancel", "cancel"),
    "executions.resume": ("resume", "resume"),
    "executions.retry": ("retry", "retry"),
    "executions.replay": ("replay", "replay"),
    "executions.replay_many": ("replay_many", "replay_each"),
    "executions.signal": ("signal", "signal"),
    "executions.cancel_many": ("many", "carry_out"),
    "executions.retry_many": ("many", "carry_out"),
    "executions.dry_run": ("dry_run", "dry_run"),
    "deployments.deploy": ("deploy", "deploy"),
    "deployments.dry_run": ("dry_run", "begin_version"),
    "dry_run": ("dry_run", "begin_dry_run"),
    "compile": ("compile", "compile"),
    "compile_all": ("compile", "compile_all"),
    "run": ("run", "run"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "upload": ("upload", "upload"),
}


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_something_is_one_function(name: str) -> None:
    module, function = CHANGING[name]
    operation = (f"kitaru.ops.{module}", function)
    source = textwrap.dedent(inspect.getsource(method(name)))
    assert operation in set(operations(ast.parse(source)))
    assert operation in called_by_commands()


def test_operations_print_nothing() -> None:
    for path in (PACKAGE / "ops").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert not names & {"print", "click"}, path
        streams = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert not streams & {"sys.stdout", "sys.stderr", "sys.stdin"}, path


def test_commands_record_nothing_themselves() -> None:
    """The command line reads stores; what it changes there, an operation changes."""
    changing = {"remember", "create_all", "set_state", "finish", "write", "adopt"}
    for path in (PACKAGE / "cli").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kitaru.runtime")
            for alias in node.names
        }
        assert not imported & (changing | {"launches"}), path
