"""The `kitaru` command: its subcommands, how they load, and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import click

from kitaru.cli import completion, layout
from kitaru.cli.output import (
    Output,
    discard,
    internal_error,
    show_error,
    show_interrupted,
)
from kitaru.compat.command_line import rewrite
from kitaru.compat.removed import COMMANDS, VARIABLES
from kitaru.errors import EnvironmentFailure, KitaruError, UsageError
from kitaru.runtime.engine import signals
from kitaru.wire.names import nearest

# Help lists every command without importing one: a command loads when it runs.
SECTIONS: dict[str, dict[str, str]] = {
    "Write": {
        "init": "Create a project: a flow and a pyproject.toml.",
        "migrate": "Rewrite a program of another engine as a flow.",
        "check": "Find errors without running anything.",
        "lsp": "Run the language server for editors.",
        "explain": "Explain a diagnostic code or a fingerprint.",
    },
    "Run": {
        "run": "Run a flow here, durably.",
        "executions": "List, show, answer, resume, replay and compare.",
        "artifacts": "List and read the values of an execution.",
        "memory": "Read, write, list and purge the memory of flows.",
        "evaluate": "Score recorded executions with your functions.",
        "mcp": "Serve a store to agents over MCP.",
        "serve": "Serve the executions of a store over HTTP.",
        "dispatcher": "Continue what was answered or invoked.",
        "events": "Send events, and list what was received.",
    },
    "Compile": {
        "compile": "Write the pipeline for a target.",
        "build": "Build and push the container image of a build.",
        "dry-run": "Compile, then execute the written pipeline here.",
        "graph": "Draw a flow's steps: Mermaid, DOT, SVG, HTML.",
        "diff": "Compare two builds, and explain each change.",
        "verify": "Check that a build is unchanged since it was compiled.",
        "target": "List the targets and what each can do.",
    },
    "Deploy": {
        "deploy": "Store a compiled flow as a version, and tag it.",
        "invoke": "Start an execution of a deployed version.",
        "flow": "List and show deployed flows, and move tags.",
        "schedule": "Start deployed flows at certain times.",
    },
    "Set up": {
        "stack": "Show the settings in force, and manage stacks.",
        "model": "Show model aliases, and what models cost.",
        "store": "Check, back up and verify a store; remove old executions.",
        "tokens": "Create, list and revoke tokens of `kitaru serve`.",
        "notifications": "Test channels of notifications, and show what is pending.",
        "audit": "Show who answered, invoked, deployed or changed something.",
        "secrets": "Store secrets for this user, and show where each is found.",
    },
}
EPILOG = """Exit codes: 0 success (also when an execution waits), 1 the flow failed or its source
has errors, 2 usage error, 3 environment error. Every command accepts --json. --output json
wraps the same document in {"command": …}."""


class Commands(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        attribute = cmd_name.replace("-", "_")
        module = importlib.import_module(f"kitaru.cli.commands.{attribute}")
        return cast(click.Command, getattr(module, attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            help = COMMANDS.get(args[0]) or self._nearest(ctx, args[0])
            raise UsageError(f"There is no command {args[0]!r}.", help=help)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.list_commands(ctx))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in section.items()])

    def _nearest(self, ctx: click.Context, name: str) -> str:
        # `kitaru replay` means `kitaru executions replay`, not `kitaru deploy`.
        for group in self.list_commands(ctx):
            command = self.get_command(ctx, group)
            if isinstance(command, click.Group) and name in command.list_commands(ctx):
                return f"kitaru {group} {name} --help"
        near = nearest(name, self.list_commands(ctx))
        return f"kitaru {near} --help" if near else "kitaru --help"


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from kitaru.version import VERSION

    click.echo(f"kitaru {VERSION}")
    ctx.exit()


@click.command(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Print the version of Kitaru.",
)  # fmt: skip
def cli() -> None:
    """Durable agent flows in plain Python, compiled for the orchestrator you already run."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. Every error is printed; none is raised."""
    if instruction := os.environ.get(completion.VARIABLE):
        return completion.answer(cli, instruction)
    try:
        arguments, enveloped = rewrite(arguments)
    except UsageError as error:
        show_error(error, Output("--json" in arguments))
        return error.exit_code
    output = Output(_asks_for_a_document(arguments), enveloped=enveloped)
    try:
        for name in sorted(VARIABLES.keys() & os.environ.keys()):
            output.note(f"{name} has no effect: use {VARIABLES[name]}")
        with _as_kitaru_errors(), signals.raised():
            return _invoke(arguments, output)
    except BrokenPipeError:
        # The reader closed the pipe. The flush at exit must not report that as an error.
        discard(1)
        return 0
    except KitaruError as error:
        show_error(error, output)
        return error.exit_code
    except signals.Terminated:
        return _interrupted("terminated", output, signals.TERMINATED)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted("interrupted", output, signals.INTERRUPTED)
    except Exception as error:
        return internal_error(error, output)


def _interrupted(message: str, output: Output, code: int) -> int:
    """Show that the command was ended, and how to resume what had begun to run in this process."""
    local = sys.modules.get("kitaru.runtime.engine.local_run")
    given_up = local.abandon_all() if local is not None else []
    show_interrupted(output, message, "\n".join(given_up), code)
    return code


def _asks_for_a_document(arguments: list[str]) -> bool:
    """Return whether JSON output is asked for, before parsing: usage errors obey it too."""
    given = " ".join(arguments).replace("--format=", "--format ")
    return "--json" in arguments or any(f"--format {f}" in given for f in ("json", "sarif"))


def _invoke(arguments: list[str], output: Output) -> int:
    # Not `cli.main`: it has its own idea of which errors end the process and how.
    try:
        with cli.make_context("kitaru", arguments, obj=output, terminal_width=_narrow()) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        output.note(error.format_message(), block=True)
        return UsageError.exit_code


def _narrow() -> int | None:
    """Return how wide a help may be on a narrow terminal: click takes 50 columns at least."""
    width = layout.columns(sys.stdout)
    return width - 2 if 0 < width < 52 else None


@contextmanager
def _as_kitaru_errors() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "kitaru"
        raise UsageError(error.format_message(), help=f"{path} --help") from None
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise EnvironmentFailure(f"{place}{error.strerror or error}") from error
