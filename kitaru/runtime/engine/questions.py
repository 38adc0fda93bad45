"""Questions of waits on a terminal: print them, read and parse the answers."""

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
# Interval for checking whether another process has answered.
_LOOK_SECONDS = 0.5


class AnsweredElsewhere(StateError):
    """Another process answered while the terminal showed the question."""

    def __init__(self, wait: str) -> None:
        super().__init__(f"Another process answered the wait {wait}.")


def is_terminal() -> bool:
    """Return whether this process may read answers from a terminal."""
    try:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        # The system stops a background job that reads from its terminal.
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def ask(wait: dict[str, Any], is_answered: Callable[[], bool]) -> Any:
    """Ask a wait's question on the terminal and return the answer.

    `wait` is `{"name", "question", "schema"}`. The question is repeated until the text parses as an
    answer. The journal checks whether the answer fits the schema. `is_answered` is polled
    meanwhile; it returns whether another process has answered.

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
    """Parse `text` as JSON if possible, otherwise return it as a string.

    If `is_text` is true, a `str` is expected. Then `2` and `true` are strings, and only a quoted
    JSON string is parsed.
    """
    try:
        value = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return text
    return text if is_text and not isinstance(value, str) else value


def parse_answer(text: str, schema: Any) -> Any:
    """Parse the answer to a wait: as JSON, or as a string if only a string fits the schema."""
    value = parse_value(text)
    return text if problem(value, schema) and not problem(text, schema) else value


def no_constant(name: str) -> NoReturn:
    """Refuse constants such as `NaN`, which JSON does not have. For `json.loads`."""
    raise ValueError(f"{name} is not JSON")


def hint(schema: dict[str, Any]) -> str:
    """Return the expected kind of answer for a schema, in brackets."""
    return f"[{' or '.join(map(_kind, schema.get('anyOf') or [schema]))}]"


def example(schema: dict[str, Any]) -> str:
    """Return an example answer of the right type, quoted for a command."""
    value = sample(schema, "TEXT")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if parse_answer(text, schema) == value else json.dumps(value, ensure_ascii=False)


def command_of(journal: Journal, request: WaitRequest) -> str:
    """Return the command that answers a wait, with an example answer of the right type."""
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
    # Print to stderr: stdout is for results.
    sys.stderr.write(rendered(line(text), color="NO_COLOR" not in os.environ))
    sys.stderr.flush()


def _is_typed() -> bool:
    """Wait a moment; return whether a line can be read."""
    import selectors

    try:
        # Not select(), which fails in a process with more than 1,024 open files.
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            return bool(selector.select(_LOOK_SECONDS))
    except (OSError, ValueError, TypeError):
        # Not a file of the operating system. Reading from it is the only option.
        return True


def _read_line() -> str:
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise EOFError
    return line.strip()
