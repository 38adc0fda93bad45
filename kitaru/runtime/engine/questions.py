"""Questions of waits, as people at a terminal read and answer them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from kitaru.errors import StateError
from kitaru.hints import command
from kitaru.runtime.schema.example import sample
from kitaru.runtime.schema.validate import problem
from kitaru.wire.printable import line, rendered, styled

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal
    from kitaru.wire.records import WaitRequest

YES = frozenset({"y", "yes", "true", "1"})
NO = frozenset({"n", "no", "false", "0"})
# How often a question looks whether another process was first.
_LOOK_SECONDS = 0.5


class AnsweredElsewhere(StateError):
    """Another process answered while the question was on the terminal."""

    def __init__(self, wait: str) -> None:
        super().__init__(f"Another process answered the wait {wait}.")


def is_terminal() -> bool:
    """Return whether a person can be asked: a terminal that this process may read from."""
    try:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        # A job in the background that reads its terminal is stopped.
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def ask(wait: dict[str, Any], is_answered: Callable[[], bool]) -> Any:
    """Ask one wait's question on the terminal and return the answer.

    `wait` is `{"name", "question", "schema"}`. Asks again until the text can be an answer at all;
    whether it fits the schema is for the journal to check. `is_answered` is asked meanwhile whether
    there is an answer from another process.

    Raises:
        EOFError: the input ended.
        AnsweredElsewhere: another process answered.
    """
    schema = wait["schema"] or {}
    question = wait["question"] or wait["name"]
    while True:
        _prompt(f"{styled(question, '1')} {hint(schema)} ")
        while not _is_typed():
            if is_answered():
                sys.stderr.write("\n")
                raise AnsweredElsewhere(wait["name"])
        text = _read_line()
        if schema.get("type") == "boolean":
            if text.lower() in YES | NO:
                return text.lower() in YES
        elif text or not problem("", schema):
            return parse_answer(text, schema)


def parse_value(text: str, *, is_text: bool = False) -> Any:
    """Return what `text` stands for: JSON when it parses, else text.

    `is_text` means that a `str` is wanted: then `2` and `true` are text, and only a quoted JSON
    string is read as JSON.
    """
    try:
        value = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return text
    return text if is_text and not isinstance(value, str) else value


def parse_answer(text: str, schema: Any) -> Any:
    """Return what the answer to a wait means: JSON, or text where only that fits the schema."""
    value = parse_value(text)
    return text if problem(value, schema) and not problem(text, schema) else value


def no_constant(name: str) -> NoReturn:
    """Refuse `NaN` and the like, which JSON does not have; for `json.loads`."""
    raise ValueError(f"{name} is not JSON")


def hint(schema: dict[str, Any]) -> str:
    """Return what kind of answer a schema wants, in brackets."""
    return f"[{' or '.join(map(_kind, schema.get('anyOf') or [schema]))}]"


def example(schema: dict[str, Any]) -> str:
    """Return an answer of the right type, as it is written in a command."""
    value = sample(schema, "TEXT")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if parse_answer(text, schema) == value else json.dumps(value, ensure_ascii=False)


def command_of(journal: Journal, request: WaitRequest) -> str:
    """Return the command that answers a wait with an answer of the right type."""
    words = ("--wait", request.name, "--value", example(request.schema or {}))
    return command(journal.store, "executions", "input", journal.exec_id, *words)


def _kind(schema: Any) -> str:
    if not isinstance(schema, dict):  # true and false are schemas
        return "JSON"
    kind, choices = schema.get("type"), schema.get("enum")
    if kind == "boolean":
        return "y/n"
    if choices:
        return " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    if kind == "object" and schema.get("properties"):
        return f"JSON object: {', '.join(schema['properties'])}"
    return str(schema.get("format", kind)) if isinstance(kind, str) else "JSON"


def _prompt(text: str) -> None:
    # To stderr: stdout is for results.
    sys.stderr.write(rendered(line(text), color="NO_COLOR" not in os.environ))
    sys.stderr.flush()


def _is_typed() -> bool:
    """Return whether a line can be read, after a while."""
    import select

    try:
        return bool(select.select([sys.stdin], [], [], _LOOK_SECONDS)[0])
    except (OSError, ValueError, TypeError):
        # Not a file of the system's; then reading is all that there is.
        return True


def _read_line() -> str:
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise EOFError
    return line.strip()
