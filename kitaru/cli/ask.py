"""Decides how a person at a terminal is asked for the answer to a wait."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from kitaru.cli.values import parse_answer
from kitaru.runtime.running.jsonschema import problem
from kitaru.runtime.running.samples import sample
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
        elif text or not problem("", schema):
            return parse_answer(text, schema)


def hint(schema: dict[str, Any]) -> str:
    """Return what kind of answer a schema wants, in brackets."""
    return f"[{' or '.join(map(_kind, schema.get('anyOf') or [schema]))}]"


def example(schema: dict[str, Any]) -> str:
    """Return an answer of the right type, as it is written in a command."""
    value = True if schema.get("type") == "boolean" else sample(schema, "TEXT")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if parse_answer(text, schema) == value else json.dumps(value, ensure_ascii=False)


def _kind(schema: dict[str, Any]) -> str:
    kind, choices = schema.get("type"), schema.get("enum")
    if kind == "boolean":
        return "y/n"
    if choices:
        return " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    if kind == "object" and schema.get("properties"):
        return f"JSON object: {', '.join(schema['properties'])}"
    return str(schema.get("format", kind)) if isinstance(kind, str) else "JSON"


def _read(prompt: str) -> str:
    # The prompt goes to stderr: stdout is for results.
    click.echo(redacted(prompt), nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        click.echo(err=True)
        raise EOFError
    return line.strip()
