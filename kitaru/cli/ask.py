"""Decides how a person at a terminal is asked for the answer to a wait."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from kitaru.cli.values import parse_value, wants_text
from kitaru.wire.secrecy import redacted

YES = frozenset({"y", "yes", "true", "1"})
NO = frozenset({"n", "no", "false", "0"})


def ask(wait: dict[str, Any]) -> Any:
    """Ask one wait's question on the terminal and return the answer.

    `wait` is `{"name", "question", "schema"}`. Asks again until the text can be an answer at all;
    whether it fits the schema is for the journal to say. Raises EOFError at the end of the input.
    """
    schema = wait["schema"] or {}
    question = click.style(wait["question"] or wait["name"], bold=True)
    while True:
        text = _read(f"{question} {hint(schema)} ")
        if schema.get("type") == "boolean":
            if text.lower() in YES | NO:
                return text.lower() in YES
        elif text or wants_text(wait):
            return parse_value(text, is_text=wants_text(wait))


def hint(schema: dict[str, Any]) -> str:
    """Return what kind of answer a schema wants, in brackets."""
    choices = schema.get("enum")
    if schema.get("type") == "boolean":
        return "[y/n]"
    if choices:
        return f"[{' | '.join(json.dumps(choice, ensure_ascii=False) for choice in choices)}]"
    if schema.get("type") == "object" and schema.get("properties"):
        return f"[JSON object: {', '.join(schema['properties'])}]"
    kind = schema.get("type")
    return f"[{kind}]" if isinstance(kind, str) else "[JSON]"


def example(schema: dict[str, Any]) -> str:
    """Return an answer of the right type as JSON text, to show in a command."""
    choices = schema.get("enum")
    if choices:
        return json.dumps(choices[0])
    examples = {"boolean": "true", "integer": "1", "number": "1.5", "array": "[]", "object": "{}"}
    return examples.get(str(schema.get("type")), "TEXT")


def _read(prompt: str) -> str:
    # The prompt goes to stderr: stdout is for results.
    click.echo(redacted(prompt), nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        click.echo(err=True)
        raise EOFError
    return line.strip()
