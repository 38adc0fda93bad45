"""Parse inputs and answers: JSON if it parses, otherwise a string."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from kitaru.errors import InputError, UsageError
from kitaru.runtime.engine.questions import no_constant, parse_value


def parse_inputs(
    options: Sequence[str], inputs_from: str | None, *, texts: Collection[str] = ()
) -> dict[str, Any]:
    """Return the flow inputs of `--inputs`, overridden by `--input` pairs.

    `texts` are the names of the inputs declared as `str`. Raises UsageError for a pair without `=`,
    for a repeated name, and if `inputs_from` is not a JSON object.
    """
    given = pairs(options, "--input")
    named = {name: parse_value(text, is_text=name in texts) for name, text in given.items()}
    return {**_read_object(inputs_from), **named} if inputs_from is not None else named


def parse_answers(given: Sequence[str]) -> dict[str, str]:
    """Return the strings of `--answer WAIT=VALUE` pairs, by wait."""
    return pairs(given, "--answer")


def parse_events(given: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the name and the data of each `--event NAME=JSON`."""
    found = []
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(
                f"--event {pair!r} is not NAME=JSON.",
                help="""--event 'invoice.paid={"order": 7}'""",
            )
        found.append((name.strip(), parse_json(text, f"--event {name.strip()}")))
    return found


def parse_json(text: str, place: str) -> Any:
    """Return the JSON of an option; raise UsageError for other text."""
    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{place} is not JSON: {error}", help="""For example '{"order": 7}'"""
        ) from None


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """Return the strings of `NAME=TEXT` pairs by name. `option` is the option for messages."""
    named: dict[str, str] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} {pair!r} is not NAME=VALUE.", help=f"{option} topic=kayaks")
        if name.strip() in named:
            raise UsageError(f"{option} {name.strip()} is passed twice.")
        named[name.strip()] = text
    return named


def _read_object(source: str) -> dict[str, Any]:
    text, place = source, "--inputs"
    if not source.lstrip().startswith(("{", "[")):
        text, place = _read_file(source), source
    try:
        value = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(
            f"{place} must contain a JSON object.", help="""--inputs '{"topic": "…"}'"""
        )
    return value


def _read_file(source: str) -> str:
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--inputs {source}: {error}",
            help="""Pass a JSON file, or a JSON object: '{"topic": "…"}'""",
        ) from None
