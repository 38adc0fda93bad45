"""Decides what goes to which stream: documents and results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import layout
from kitaru.errors import KitaruError
from kitaru.wire.printable import INDENT, indented, rendered, styled, visible
from kitaru.wire.redaction import redacted, redacted_json

if TYPE_CHECKING:
    from kitaru_compiler.diagnostics.model import Diagnostic

INTERNAL = 70
COLORS = {
    name: 30 + number
    for number, name in enumerate(
        ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
    )
}


class Output:
    """Where a command writes.

    With `--json`, stdout carries one document and nothing else: whatever flows, libraries and
    child processes write to it is sent to stderr instead. Secrets are hidden wherever it writes.
    """

    def __init__(self, as_json: bool, *, enveloped: bool = False) -> None:
        """`enveloped` writes `{command, item}`, or `{command, items, count}` for a list."""
        self.as_json = as_json
        self._enveloped = enveloped
        self._stdout: int | None = None
        if as_json:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)

    def document(self, document: Any) -> None:
        """Write the command's one JSON document."""
        assert self._stdout is not None
        sys.stdout.flush()
        if self._enveloped:
            document = _envelope(document)
        text = json.dumps(redacted_json(document), indent=2, ensure_ascii=False) + "\n"
        text = "".join(c if c.isprintable() or c in "\n " else json.dumps(c)[1:-1] for c in text)
        data = text.encode("utf-8", "backslashreplace")
        with os.fdopen(self._stdout, "wb") as stream:
            stream.write(data)

    def say(self, text: str = "", hang: int | None = None, *, block: bool = False) -> None:
        """Write a line of the command's answer for people.

        Lines after the first are indented, so that a value with a line break forges none; those of
        a `block` are not.

        A line with `hang` is broken between words where the terminal ends, and continues at that
        column. Commands to paste and the user's own text are written without.
        """
        click.echo(_fitted(text, sys.stdout, hang, block), color=True)

    def answer(self, text: str) -> None:
        """Write what a flow returned, or an artifact: as it is, unless to a terminal."""
        if sys.stdout.isatty():
            self.say(text)
        else:
            click.echo(_encodable(redacted(text), sys.stdout), color=True)

    def note(self, text: str = "", hang: int | None = None, *, block: bool = False) -> None:
        """Write a line about how it goes; never part of the answer.

        A reader that has closed stderr misses it, and the command continues.
        """
        try:
            click.echo(_fitted(text, sys.stderr, hang, block), err=True, color=True)
        except BrokenPipeError:
            discard(2)

    def table(
        self, rows: Sequence[Sequence[str]], heads: Sequence[str] = (), *, empty: str = ""
    ) -> None:
        """Write rows as a table that fits the terminal; without rows, write `empty`."""
        for line in self.rows(rows, heads) if rows else [empty]:
            self.say(line, block=True)

    def rows(
        self, rows: Sequence[Sequence[str]], heads: Sequence[str] = (), *, err: bool = False
    ) -> list[str]:
        """Return a table for stdout, or stderr: one string for each row, and the heads before."""
        # Hidden before lines break: a secret may have spaces.
        shown = [[visible(redacted(cell)) for cell in row] for row in rows]
        return layout.table(shown, layout.columns(sys.stderr if err else sys.stdout), heads)

    @property
    def live(self) -> bool:
        """Whether progress may be drawn over and over: a terminal, and no document asked for."""
        return not self.as_json and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def interactive(self) -> bool:
        """Whether a person is there to ask."""
        return not self.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def color(self) -> bool:
        """Whether stderr takes ANSI styles."""
        return not self.as_json and sys.stderr.isatty() and "NO_COLOR" not in os.environ

    @property
    def width(self) -> int:
        """How many columns the terminal has that stderr is; 0 when it is none, or says nothing."""
        return layout.columns(sys.stderr)


def _envelope(document: Any) -> dict[str, Any]:
    _, _, path = click.get_current_context().command_path.partition(" ")
    command = {"command": path.replace(" ", ".")}
    if isinstance(document, dict) and "items" in document:
        return {**command, **document}
    return {**command, "item": document}


def discard(descriptor: int) -> None:
    """Send what is written to a file descriptor, buffered text included, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def label(text: str, color: str) -> str:
    """Return a word that stands out, in bold and `color`."""
    return styled(text, f"{COLORS[color]};1")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 execution` or `2,000 executions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show_error(error: KitaruError, output: Output) -> None:
    """Write an error to stderr, as JSON when the command was asked for JSON."""
    diagnostics, sources = _diagnostics(error)
    if output.as_json:
        _write_json_error(error, diagnostics)
    elif diagnostics:
        show_diagnostics(diagnostics, sources, output)
    else:
        # Line by line, because each is broken where the terminal ends.
        for number, line in enumerate(error.message.split("\n")):
            output.note(f"{label('error', 'red') + ':' if number == 0 else ' '} {line}", hang=7)
        _show_help(error.help, output)


def _show_help(help: str, output: Output) -> None:
    for number, line in enumerate(help.split("\n") if help else []):
        output.note(f"{'help:' if number == 0 else '     '} {line}")


def show_diagnostics(
    diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], output: Output
) -> None:
    """Write findings to stderr, and how many there are."""
    from kitaru_compiler.diagnostics.render import render, summary

    width = {"width": output.width} if output.width else {}
    if shown := render(diagnostics, sources, color=output.color, **width):
        output.note(shown, block=True)
    if diagnostics:
        output.note(summary(diagnostics))


def show_findings(
    diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], output: Output, form: str
) -> None:
    """Write findings in the `--format` asked for; those in `json` are the command's to write."""
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
    # The terminal shows ^C on the line that is under way.
    output.note(f"\n{message}")
    _show_help(help, output)


def internal_error(error: Exception, output: Output) -> int:
    """Say that Kitaru itself is wrong: one line, and the traceback for whoever asks for it."""
    message = f"this is a bug in Kitaru: {type(error).__name__}: {error}"
    help = "set KITARU_TRACEBACK=1 to see where, and please report it"
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
    # Only the compiler raises these, so its module is there when the error is one.
    model = sys.modules.get("kitaru_compiler.diagnostics.model")
    if model is not None and isinstance(error, model.SourceError):
        return error.diagnostics, error.sources
    return (), {}


def _write_json_error(error: KitaruError, diagnostics: tuple[Diagnostic, ...]) -> None:
    listed: list[dict[str, Any]] = []
    if diagnostics:
        from kitaru_compiler.diagnostics.render import in_order, to_json

        listed = [to_json(d) for d in in_order(diagnostics)]
    _write_json(type(error).__name__, error.message, error.help, error.exit_code, listed)


def _write_json(
    type_name: str, message: str, help: str, code: int, diagnostics: list[dict[str, Any]]
) -> None:
    error = {"type": type_name, "message": message, "help": help, "exit_code": code}
    document = {"error": {**error, "diagnostics": diagnostics} if diagnostics else error}
    click.echo(json.dumps(redacted_json(document)), err=True)


def _color(stream: Any) -> bool:
    return bool(stream.isatty()) and "NO_COLOR" not in os.environ


def _fitted(text: str, stream: Any, hang: int | None, block: bool) -> str:
    """Return what a stream can show of a text: secrets hidden, broken between words to fit it."""
    shown = visible(redacted(text))
    if not block:
        start = len(shown) - len(shown.lstrip("\n"))
        shown = shown[:start] + indented(shown[start:], max(hang or 0, INDENT))
    if hang is not None:
        shown = layout.wrap(shown, layout.columns(stream), hang)
    return _encodable(rendered(shown, color=_color(stream)), stream)


def _encodable(text: str, stream: Any) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
