"""Decides what a good answer to a wait is: a type as JSON schema, and JSON as the type."""

from __future__ import annotations

import sys
from typing import Any, Literal, get_args, get_origin

from kitaru.errors import AnswerInvalid, UsageError
from kitaru.runtime.running.jsonschema import at, problem

_PLAIN: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    list: {"type": "array"},
    dict: {"type": "object"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
}


def to_json_schema(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; a dict is taken to be one already.

    Plain types need nothing; others (models, dataclasses, unions, `list[int]`, …) need pydantic.

    Raises:
        UsageError: there is no JSON schema for it.
    """
    if isinstance(schema, dict):
        return schema
    if _is_plain(schema):
        return dict(_PLAIN[schema])
    if get_origin(schema) is Literal:
        return {"enum": list(get_args(schema))}
    adapter = _adapter(schema)
    try:
        return dict(adapter.json_schema())
    except Exception as error:
        raise _shapeless(schema, error) from error


def check_answer(value: Any, schema: dict[str, Any], wait: str) -> None:
    """Check an answer as far as its JSON schema tells.

    Raises:
        AnswerInvalid: it does not fit; the message shows the schema.
    """
    reason = problem(value, schema)
    if reason is not None:
        raise _invalid(wait, reason, schema)


def from_json(value: Any, schema: Any, what: str) -> Any:
    """Return JSON data as an instance of the type `schema`.

    Raises:
        AnswerInvalid: it does not fit.
    """
    if isinstance(schema, dict) or get_origin(schema) is Literal or _is_plain(schema):
        as_json = to_json_schema(schema)
        check_answer(value, as_json, what)
        return float(value) if schema is float else value
    try:
        return _adapter(schema).validate_python(value)
    except ValueError as error:  # pydantic's ValidationError is one
        raise _invalid(what, _reason(error), to_json_schema(schema)) from None


def _reason(error: Any) -> str:
    """Return what pydantic says, place by place, without what stood there."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(at(".".join(map(str, one["loc"])), one["msg"]) for one in found)


def _is_plain(schema: Any) -> bool:
    try:
        return schema in _PLAIN
    except TypeError:
        return False


def _adapter(schema: Any) -> Any:
    try:
        from pydantic import TypeAdapter
    except ImportError as error:
        raise UsageError(
            f"schema={schema!r} needs pydantic, which is not installed.",
            help=f"{sys.executable} -m pip install pydantic",
        ) from error
    try:
        return TypeAdapter(schema)
    except Exception as error:
        raise _shapeless(schema, error) from error


def _shapeless(schema: Any, error: Exception) -> UsageError:
    return UsageError(
        f"schema={schema!r} does not say what an answer looks like: {error}",
        help="Use bool, int, float, str, list, dict, a pydantic model or a dataclass.",
    )


def _invalid(wait: str, reason: str, schema: dict[str, Any]) -> AnswerInvalid:
    # Only the rare bad answer pays for it.
    import json

    return AnswerInvalid(
        f'The value for "{wait}" does not fit: {reason}.',
        help=f"Its JSON schema is {json.dumps(schema, ensure_ascii=True)}",
    )
