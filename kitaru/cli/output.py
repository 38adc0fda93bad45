"""Decides what goes to which stream: documents and results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kitaru.errors import KitaruError
from kitaru.wire.secrecy import redacted, redacted_json

if TYPE_CHECKING:
    from kitaru_compiler.diagnostics.model import Diagnostic

INTERRUPTED = 130
INTERNAL = 70


class Output:
    """Where a command writes.

    With `--json`, stdout carries one document and nothing else: whatever flows, libraries and
    child processes write to it is sent to stderr instead. Secrets are hidden wherever it writes.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout: int | None = None
        if as_json:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)

    def document(self, document: Any) -> None:
        """Write the command's one JSON document."""
        assert self._stdout is not None
        sys.stdout.flush()
        text = json.dumps(redacted_json(document), indent=2, ensure_ascii=False) + "\n"
        data = text.encode("utf-8", "backslashreplace")
        with os.fdopen(self._stdout, "wb") as stream:
            stream.write(data)

    def say(self, text: str = "") -> None:
        """Write a line of the command's answer for people."""
        click.echo(_writable(text, sys.stdout), color=_color(sys.stdout))

    def note(self, text: str = "") -> None:
        """Write a line about how it goes; never part of the answer."""
        click.echo(_writable(text, sys.stderr), err=True, color=_color(sys.stderr))

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
        return shutil.get_terminal_size((0, 0)).columns if sys.stderr.isatty() else 0


def label(text: str, color: str) -> str:
    """Return a word that stands out, in bold and `color`."""
    return click.style(text, fg=color, bold=True)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns; styles take no room."""
    widths = [max(len(click.unstyle(c)) for c in column) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_pad, row, widths)).rstrip() for row in rows]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 execution` or `2,000 executions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - len(click.unstyle(cell)))


def show_error(error: KitaruError, output: Output) -> None:
    """Write an error to stderr, as JSON when the command was asked for JSON."""
    diagnostics, sources = _diagnostics(error)
    if output.as_json:
        _write_json_error(error, diagnostics)
    elif diagnostics:
        show_diagnostics(diagnostics, sources, output)
    else:
        output.note(f"{label('error', 'red')}: {error.message}")
        for number, line in enumerate(error.help.splitlines()):
            output.note(f"{'help:' if number == 0 else '     '} {line}")


def show_diagnostics(
    diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], output: Output
) -> None:
    """Write findings to stderr, and how many there are."""
    from kitaru_compiler.diagnostics.render import render, summary

    width = {"width": output.width} if output.width else {}
    if shown := render(diagnostics, sources, color=output.color, **width):
        output.note(shown)
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


def show_interrupted(output: Output, message: str, help: str) -> None:
    """Say that ctrl-C ended the command, and how to go on."""
    if output.as_json:
        _write_json("Interrupted", message, help, INTERRUPTED, [])
        return
    # The terminal shows ^C on the line that is under way.
    output.note(f"\n{message}")
    if help:
        output.note(f"help: {help}")


def internal_error(error: Exception, output: Output) -> int:
    """Say that Kitaru itself is wrong: one line, and the traceback for whoever asks for it."""
    message = f"this is a bug in Kitaru: {type(error).__name__}: {error}"
    help = "set KITARU_TRACEBACK=1 to see where, and please report it"
    if os.environ.get("KITARU_TRACEBACK"):
        import traceback

        output.note("".join(traceback.format_exception(error)))
    if output.as_json:
        _write_json(type(error).__name__, message, help, INTERNAL, [])
    else:
        output.note(f"{label('error', 'red')}: {message}\nhelp: {help}")
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


def _writable(text: str, stream: Any) -> str:
    """Return what a stream can show of a text, secrets hidden."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return redacted(text).encode(encoding, "backslashreplace").decode(encoding)
