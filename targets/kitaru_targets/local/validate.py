"""Check that a process can be started here from a document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kitaru.errors import StateError
from kitaru_targets.common import parameters
from kitaru_targets.local.emit import FOLDER, SCHEMA

_FIELDS = {"schema", "flow", "bundle", "requirements", "environment", "inputs", "command"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?==\S+")
# The element types of lists and tables.
_SHAPES: dict[str, tuple[type, type]] = {
    "requirements": (list, str),
    "environment": (dict, str),
    "inputs": (dict, dict),
    "command": (list, str),
}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, str),
    "number": (int, float, str),
    "boolean": (bool, str),
}


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if there are no faults."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return [f"the document cannot be read: {error}"]
    if not isinstance(document, dict) or set(document) != _FIELDS:
        return [f"the document does not have exactly {', '.join(sorted(_FIELDS))}"]
    wrong = [f"{name}: not of the right type" for name in _SHAPES if not _has_shape(document, name)]
    return wrong or list(_problems(document))


def parsed(data: str | bytes, where: str) -> dict[str, Any]:
    """Parse the document in a file; raise StateError, with the name `where`, if it is damaged.

    >>> parsed("[]", "build/process.json")
    Traceback (most recent call last):
    kitaru.errors.StateError: build/process.json starts no process: the document does not have …
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        problems = validate(text)
    except UnicodeDecodeError as error:
        problems = [str(error)]
    if problems:
        raise StateError(
            f"{where} starts no process: {problems[0]}.",
            help="Deploy the flow again: kitaru deploy PATH:FLOW",
        )
    document: dict[str, Any] = json.loads(text)
    return document


def _has_shape(document: dict[str, Any], name: str) -> bool:
    kind, inner = _SHAPES[name]
    found = document[name]
    items = found.values() if isinstance(found, dict) else found
    return isinstance(found, kind) and all(isinstance(item, inner) for item in items)


def _problems(document: dict[str, Any]) -> Iterator[str]:
    if document["schema"] != SCHEMA:
        yield f"schema {document['schema']!r} is not {SCHEMA}"
    if not _DIGEST.fullmatch(str(document["bundle"])):
        yield f"bundle: {document['bundle']!r} is not a digest"
    for pin in document["requirements"]:
        if not _PIN.fullmatch(pin):
            yield f"requirements: {pin!r} is not NAME==VERSION"
    for name, value in document["environment"].items():
        if not isinstance(value, str) or "\0" in value or not name or "=" in name:
            yield f"environment: {name!r} cannot be a variable of a process"
    for name in (parameters.EXECUTION, parameters.STORE):
        if name not in document["inputs"]:
            yield f"inputs: {name} is missing"
    for name, value in document["inputs"].items():
        if not isinstance(value.get("default", ""), _TYPES.get(str(value.get("type")), ())):
            yield f"inputs: {name} has no default of the type {value.get('type')}"
    command = document["command"]
    if command[:3] != ["-m", "kitaru.runtime", "step"]:
        yield "command: does not start a step"
    if sum(part.startswith(FOLDER) for part in command) != 1:
        yield "command: reads its plan from somewhere else than the bundle"
