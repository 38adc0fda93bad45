"""Schemas for the answers of waits: convert a type to JSON Schema, and JSON to the type."""

from __future__ import annotations

import sys
from enum import Enum
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kitaru.errors import AnswerInvalid, ClassChanged, UsageError
from kitaru.runtime.codec import user_codecs
from kitaru.runtime.schema.validate import at, check_schema, problem, short

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
    """Return the JSON schema of a type; a dict is a JSON schema already.

    Plain types need no library; others (models, dataclasses, unions, `list[int]`, …) need pydantic.

    Raises:
        UsageError: the type has no JSON schema.
    """
    if isinstance(schema, dict):
        return schema
    if _is_plain(schema):
        return dict(_PLAIN[schema])
    if get_origin(schema) is Literal:
        return {"enum": [_as_json(choice) for choice in get_args(schema)]}
    if (codec := user_codecs.find(schema)) is not None:
        # Only the codec's function defines the JSON of the class.
        return {"description": f"the form that {codec.title} gives a {codec.cls.__qualname__}"}
    adapter = _adapter(schema)
    try:
        return dict(adapter.json_schema())
    except Exception as error:
        raise _shapeless(schema, error) from error


def askable_schema(schema: Any, what: str) -> dict[str, Any]:
    """Return the JSON schema of a type or a dict, if answers can be validated against it.

    `what` names what needs the value: `the wait "approve"`.

    Raises:
        UsageError: the type has no JSON schema, or part of the schema cannot be checked.
        EnvironmentFailure: the schema is more than a plain type, and jsonschema-rs is missing.
    """
    made = to_json_schema(schema)
    check_schema(made, what, of_type=not isinstance(schema, dict))
    return made


def check_answer(value: Any, schema: dict[str, Any], wait: str) -> None:
    """Validate an answer against its JSON schema.

    Raises:
        AnswerInvalid: the answer does not fit; the message shows the schema.
    """
    reason = problem(value, schema)
    if reason is not None:
        raise _invalid(wait, reason, schema)


def from_json(value: Any, schema: Any, what: str, *, strict: bool = False) -> Any:
    """Return JSON data as an instance of the type `schema`.

    A plain type accepts only its own JSON. A class with a codec accepts its encoded form, also
    inside a list, dict, tuple, set or union. Pydantic converts values inside other types, such as
    `"5"` for an item of `list[int]`; with `strict`, such values must be as exact as for a plain
    type.

    Raises:
        AnswerInvalid: the value does not fit.
    """
    if isinstance(schema, dict):
        check_answer(value, schema, what)
        return value
    if _is_plain(schema):
        check_answer(value, _PLAIN[schema], what)
        return _plain(value, schema, what, strict)
    if get_origin(schema) is Literal:
        for choice in get_args(schema):
            if _is_same(_as_json(choice), value):
                return choice
        choices = to_json_schema(schema)
        shown = ", ".join(map(short, choices["enum"]))
        raise _invalid(what, f"{short(value)} is not one of {shown}", choices)
    if user_codecs.find(schema) is not None:
        try:
            return _decoded(schema, value)
        except ValueError as error:
            raise _invalid(what, str(error), to_json_schema(schema)) from None
    adapter = _adapter(schema)
    try:
        return _strictly(adapter, value) if strict else adapter.validate_python(value)
    except ValueError as error:  # pydantic's ValidationError is one
        raise _invalid(what, _reason(error), to_json_schema(schema)) from None


def _strictly(adapter: Any, value: Any) -> Any:
    """Validate without conversions between numbers, booleans and strings.

    Strict validation of JSON still turns a string into a date, a Path or a member of an enum;
    strict validation of Python data does not. For times alone, it accepts fewer notations: no date
    for a datetime, no seconds for a timedelta.
    """
    import json

    try:
        text = json.dumps(value)
    except (TypeError, ValueError):  # Python data, which KitaruClient takes as well
        return adapter.validate_python(value)
    try:
        return adapter.validate_json(text, strict=True)
    except ValueError as error:
        kinds = {one["type"] for one in error.errors(include_url=False)}  # type: ignore[attr-defined]
        # A string with half a surrogate pair is a valid str, but not valid JSON.
        if all(kind == "json_invalid" or kind.startswith(("date", "time")) for kind in kinds):
            return adapter.validate_python(value)
        raise


def _plain(value: Any, kind: Any, what: str, strict: bool) -> Any:
    """Return JSON of a plain type as that type. 1 and 1.0 are the same number in JSON."""
    if kind is int and isinstance(value, float):
        if strict:
            raise _invalid(what, f"{value} is a float, not an int", _PLAIN[int])
        return int(value)
    if kind is not float:
        return value
    try:
        return float(value)
    except OverflowError:
        reason = "it is beyond the largest float (about 1.8e308)"
        raise _invalid(what, reason, _PLAIN[float]) from None


def _as_json(choice: Any) -> Any:
    """Return the JSON for one choice of a Literal; for an enum member, its value."""
    return choice.value if isinstance(choice, Enum) else choice


def _is_same(a: Any, b: Any) -> bool:
    # In Python, True equals 1.
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _reason(error: Any) -> str:
    """Return pydantic's errors by place, without the invalid values."""
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
            help=f"{sys.executable} -m pip install 'pydantic>=2.7'",
        ) from error
    try:
        return TypeAdapter(_with_codecs(schema))
    except Exception as error:
        raise _shapeless(schema, error) from error


def _with_codecs(schema: Any) -> Any:
    """Return a type for pydantic in which codecs decode their classes.

    list[Money]  ->  list[Annotated[Money, decoded by its codec]]
    """
    if user_codecs.find(schema) is not None:
        from pydantic import PlainValidator, WithJsonSchema

        decode = PlainValidator(partial(_decoded, schema))
        return Annotated[schema, decode, WithJsonSchema(to_json_schema(schema))]
    origin, arguments = get_origin(schema), get_args(schema)
    if origin is None or origin is Literal:
        return schema
    inner = tuple(map(_with_codecs, arguments))
    if all(new is old for new, old in zip(inner, arguments, strict=True)):
        return schema
    if origin in (Union, UnionType):
        return Union[inner]  # noqa: UP007 - of as many types as there are
    return Annotated[inner] if origin is Annotated else origin[inner]


def _decoded(cls: type, value: Any) -> Any:
    try:
        return value if type(value) is cls else user_codecs.from_form(cls, value)
    except ClassChanged as error:
        raise ValueError(error.message) from None


def _shapeless(schema: Any, error: Exception) -> UsageError:
    return UsageError(
        f"schema={schema!r} does not say what an answer looks like: {error}",
        help="Use bool, int, float, str, list, dict, a pydantic model or a dataclass.",
    )


def _invalid(wait: str, reason: str, schema: dict[str, Any]) -> AnswerInvalid:
    # Imported only for the rare invalid answer.
    import json

    return AnswerInvalid(
        f'The value for "{wait}" does not fit: {reason}.',
        help=f"Its JSON schema is {json.dumps(schema, ensure_ascii=True)}",
    )
