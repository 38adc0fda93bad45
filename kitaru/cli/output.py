"""Output of commands: documents and results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from kitaru.cli import layout
from kitaru.errors import KitaruError
from kitaru.wire.printable import INDENT, indented, rendered, styled, visible
from kitaru.wire.redaction import redacted, redacted_json, redactor

if TYPE_CHECKING:
    from kitaru_compiler.diagnostics.model import Diagnostic

INTERNAL = 70
# Default page sizes: for people, and in a JSON document.
LINES = 100
JSON_ITEMS = 1_000
T = TypeVar("T")

COLORS = {
    name: 30 + number
    for number, name in enumerate(
        ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
    )
}


class Output:
    """The output streams of a command.

    With `--json`, stdout contains exactly one document. Anything else that flows, libraries and
    child processes write to stdout is sent to stderr. Secrets are hidden on both streams.
    """

    def __init__(self, as_json: bool, *, enveloped: bool = False) -> None:
        """With `enveloped`, write `{command, item}`, or `{command, items, count}` for a list."""
        self.as_json = as_json
        self._enveloped = enveloped
        self._describes = False
        self._stdout: int | None = None
        if as_json:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)

    def describe(self) -> None:
        """Write notes to stdout from now on: the command's result is a description.

        `executions get` uses the same lines as the progress of a run, which is not a result.
        """
        self._describes = True

    def document(self, document: Any, *, is_permission: bool = False) -> None:
        """Write the JSON document of the command; see `permission`."""
        assert self._stdout is not None
        sys.stdout.flush()
        if self._enveloped:
            document = _envelope(document)
        if not is_permission:
            document = redacted_json(document)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        text = "\n".join(map(_escaped, text.split("\n")))
        data = text.encode("utf-8", "backslashreplace")
        with os.fdopen(self._stdout, "wb") as stream:
            stream.write(data)

    def say(self, text: str = "", hang: int | None = None, *, block: bool = False) -> None:
        """Write a line of the command's result for people.

        Lines after the first are indented, so that a value with a line break cannot imitate a line
        of output. Lines of a `block` are not indented.

        With `hang`, a line is wrapped at the width of the terminal, and continues at that column.
        Commands to paste and the user's own text are written without `hang`.
        """
        click.echo(_fitted(text, sys.stdout, hang, block), color=True)

    def piece(self, text: str) -> None:
        """Write a piece of a text that continues. Its lines after the first are indented."""
        click.echo(_fitted(text, sys.stdout, None, False), nl=False, color=True)

    def answer(self, text: str) -> None:
        """Write a flow's result or an artifact. It is written unchanged, except to a terminal."""
        if sys.stdout.isatty():
            self.say(text)
        else:
            click.echo(_encodable(redacted(text), sys.stdout), color=True)

    def permission(self, url: str) -> None:
        """Write a URL that is itself a permission, which is hidden everywhere else."""
        click.echo(_encodable(visible(url), sys.stdout))

    def note(self, text: str = "", hang: int | None = None, *, block: bool = False) -> None:
        """Write a line about progress to stderr. It is never part of the result.

        If the reader has closed stderr, the line is lost and the command continues. After
        `describe`, the line is part of the result.
        """
        if self._describes:
            self.say(text, hang, block=block)
            return
        try:
            click.echo(_fitted(text, sys.stderr, hang, block), err=True, color=True)
        except BrokenPipeError:
            discard(2)

    def table(
        self, rows: Sequence[Sequence[str]], heads: Sequence[str] = (), *, empty: str = ""
    ) -> None:
        """Write rows as a table that fits the terminal. Without rows, write `empty`."""
        hide = redactor()
        for line in self.rows(rows, heads) if rows else [empty]:
            click.echo(_fitted(line, sys.stdout, None, True, hide), color=True)

    def rows(
        self, rows: Sequence[Sequence[str]], heads: Sequence[str] = (), *, note: bool = False
    ) -> list[str]:
        """Return a table for stdout, or for notes: one string per row, the heads first."""
        # Secrets are hidden before lines are broken, because a secret may contain spaces.
        hide = redactor()
        shown = [[visible(hide(cell)) for cell in row] for row in rows]
        stream = sys.stderr if note and not self._describes else sys.stdout
        return layout.table(shown, layout.columns(stream), heads)

    @property
    def live(self) -> bool:
        """Whether progress may be redrawn in place: on a terminal, without `--json`."""
        return not self.as_json and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def interactive(self) -> bool:
        """Whether the command can prompt a person."""
        return not self.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def color(self) -> bool:
        """Whether stderr accepts ANSI styles."""
        return not self.as_json and sys.stderr.isatty() and "NO_COLOR" not in os.environ

    @property
    def width(self) -> int:
        """Width of the terminal of stderr in columns; 0 without a terminal, or if unknown."""
        return layout.columns(sys.stderr)


def _envelope(document: Any) -> dict[str, Any]:
    _, _, path = click.get_current_context().command_path.partition(" ")
    command = {"command": path.replace(" ", ".")}
    if isinstance(document, dict) and "items" in document:
        return {**command, **document}
    return {**command, "item": document}


def discard(descriptor: int) -> None:
    """Discard everything that is written to a file descriptor, including buffered text."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def label(text: str, color: str) -> str:
    """Return a word in bold and `color`."""
    return styled(text, f"{COLORS[color]};1")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 execution` or `2,000 executions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show_error(error: KitaruError, output: Output) -> None:
    """Write an error to stderr, as JSON with `--json`."""
    diagnostics, sources = _diagnostics(error)
    if output.as_json:
        _write_json_error(error, diagnostics)
    elif diagnostics:
        show_diagnostics(diagnostics, sources, output)
    else:
        # Each line is wrapped on its own.
        for number, line in enumerate(error.message.split("\n")):
            output.note(f"{label('error', 'red') + ':' if number == 0 else ' '} {line}", hang=7)
        _show_help(error.help, output)


def _show_help(help: str, output: Output) -> None:
    for number, line in enumerate(help.split("\n") if help else []):
        output.note(f"{'help:' if number == 0 else '     '} {line}")


def show_diagnostics(
    diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], output: Output
) -> None:
    """Write findings and their number to stderr."""
    from kitaru_compiler.diagnostics.render import render, summary

    width = {"width": output.width} if output.width else {}
    if shown := render(diagnostics, sources, color=output.color, **width):
        output.note(shown, block=True)
    if diagnostics:
        output.note(summary(diagnostics))


def show_findings(
    diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], output: Output, form: str
) -> None:
    """Write findings in the chosen `--format`. The command itself writes the format `json`."""
    if form == "sarif":
        from kitaru_compiler.diagnostics.sarif import to_sarif

        output.document(to_sarif(diagnostics))
    elif form == "github":
        from kitaru_compiler.diagnostics.github import to_github

        for line in to_github(diagnostics):
            output.say(line)
    elif not output.as_json:
        show_diagnostics(diagnostics, sources, output)


def show_interrupted(output: Output, message: str, help: str, code: int) -> None:
    """Report that Ctrl-C or SIGTERM ended the command, and how to continue."""
    if output.as_json:
        _write_json("Interrupted", message, help, code, [])
        return
    # The terminal shows ^C on the current line.
    output.note(f"\n{message}")
    _show_help(help, output)


def internal_error(error: Exception, output: Output) -> int:
    """Report a bug in Kitaru in one line, with a traceback if KITARU_TRACEBACK is set."""
    message = f"This is a bug in Kitaru: {type(error).__name__}: {error}"
    help = "Set KITARU_TRACEBACK=1 to see the traceback, and please report the bug."
    if os.environ.get("KITARU_TRACEBACK"):
        import traceback

        output.note("".join(traceback.format_exception(error)), block=True)
    if output.as_json:
        _write_json(type(error).__name__, message, help, INTERNAL, [])
    else:
        output.note(f"{label('error', 'red')}: {message}")
        output.note(f"help: {help}")
    return INTERNAL


def _diagnostics(error: KitaruError) -> tuple[tuple[Diagnostic, ...], dict[str, str]]:
    # Only the compiler raises these errors, so its module is loaded by then.
    model = sys.modules.get("kitaru_compiler.diagnostics.model")
    if model is not None and isinstance(error, model.SourceError):
        return error.diagnostics, error.sources
    return (), {}


def _write_json_error(error: KitaruError, diagnostics: tuple[Diagnostic, ...]) -> None:
    listed: list[dict[str, Any]] = []
    if diagnostics:
        from kitaru_compiler.diagnostics.render import in_order, to_json

        listed = [to_json(d) for d in in_order(diagnostics)]
    _write_json(
        type(error).__name__, error.message, error.help, error.exit_code, listed, error.exec_id
    )


def _write_json(
    type_name: str, message: str, help: str, code: int, diagnostics: list[dict[str, Any]],
    exec_id: str = "",
) -> None:  # fmt: skip
    error = {"type": type_name, "message": message, "help": help, "exit_code": code}
    error |= {"exec_id": exec_id} if exec_id else {}
    document = {"error": {**error, "diagnostics": diagnostics} if diagnostics else error}
    click.echo(json.dumps(redacted_json(document)), err=True)


def _escaped(line: str) -> str:
    """Return a line of JSON with escapes for the characters that a terminal does not print."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _color(stream: Any) -> bool:
    return bool(stream.isatty()) and "NO_COLOR" not in os.environ


def _fitted(
    text: str,
    stream: Any,
    hang: int | None,
    block: bool,
    hide: Callable[[str], str] = redacted,
) -> str:
    """Return a text as a stream can show it: secrets hidden, lines wrapped at its width."""
    shown = visible(hide(text))
    if not block:
        start = len(shown) - len(shown.lstrip("\n"))
        shown = shown[:start] + indented(shown[start:], max(hang or 0, INDENT))
    if hang is not None:
        shown = layout.wrap(shown, layout.columns(stream), hang)
    return _encodable(rendered(shown, color=_color(stream)), stream)


def _encodable(text: str, stream: Any) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@dataclass(frozen=True)
class Part(Generic[T]):
    """A page of a list. `next` is how many items to skip for the next page, None at the end."""

    items: list[T]
    next: int | None

    def document(self, items: list[Any]) -> dict[str, Any]:
        """Return this page as JSON. `items` are its items as JSON."""
        return {"items": items, "count": len(items), "next": self.next}


def part(found: Iterable[T], output: Output, limit: int | None, skip: int) -> Part[T]:
    """Return the page of a list that a command shows. Later items are not read."""
    most = limit or (JSON_ITEMS if output.as_json else LINES)
    return part_of(list(islice(found, skip, skip + most + 1)), most, skip)


def part_of(some: list[T], most: int, skip: int) -> Part[T]:
    """Return the page after `skip` items. `some` contains one item more if a page follows."""
    return Part(some[:most], skip + most if len(some) > most else None)


def show_more(output: Output, of: Part[Any]) -> None:
    """Print how to get the next page, if there is one."""
    if of.next is not None:
        output.note(f"there are more: --skip {of.next}", hang=2)
