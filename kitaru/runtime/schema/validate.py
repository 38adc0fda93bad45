"""JSON Schema: validate JSON data, and check that every part of a schema can be validated.

The library jsonschema-rs validates; no other module imports it. A schema that is only a type, such
as that of `schema=bool`, is validated here. The steps of most pipelines see no other schema and
need not install the library.

**Every keyword of draft 2020-12 is checked**, and those of an older draft if `$schema` names it.
The specification lets a validator ignore unknown parts: an unknown format, a keyword of another
draft, a misspelt keyword. An answer would then be accepted without the check. So the wait rejects
such a schema:

    kitaru.wait(schema={"type": "string", "format": "phone"})   # refused: format
    kitaru.wait(schema={"$ref": "#/$defs/missing"})             # refused: $ref
    kitaru.wait(schema={"type": "string", "minlength": 3})      # refused: minlength, did you mean
    kitaru.wait(schema={"enum": []})                            # refused: no value fits

Schemas that pydantic generates from a type are exempt from the first and the third check, because
the type also validates the answer.

**No pattern can hang the process that validates.** The library's engine takes linear time for
patterns without lookaround and backreferences. For other patterns, which pydantic generates for
Decimal, a search that backtracks too often is aborted, and the answer is rejected. References are
never fetched from the network.

**Formats.** `date-time`, `time` and `duration` also accept Python's own notation of such values,
for example a time without an offset. The other formats are the library's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.wire.names import nearest

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_MOST_BACKTRACKS = 100_000
# The maximum number of reasons, and of characters of a value, in a message.
_MOST_REASONS = 3
_SHOWN = 60
_ANNOTATIONS = frozenset({"title", "description", "default", "examples"})
_OWN_URI = "https://json-schema.org/draft/2020-12/schema"
# Checked by other drafts or dialects, ignored by draft 2020-12.
_OTHER_DRAFTS = frozenset({
    "additionalItems", "disallow", "divisibleBy", "extends", "nullable", "$recursiveAnchor",
    "$recursiveRef",
})  # fmt: skip
_KEYWORDS = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema",
    "$vocabulary", "additionalProperties", "allOf", "anyOf", "const", "contains",
    "contentEncoding", "contentMediaType", "contentSchema", "default", "definitions",
    "dependencies", "dependentRequired", "dependentSchemas", "deprecated", "description", "else",
    "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "if", "items",
    "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems",
    "minLength", "minProperties", "minimum", "multipleOf", "not", "oneOf", "pattern",
    "patternProperties", "prefixItems", "properties", "propertyNames", "readOnly", "required",
    "then", "title", "type", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
    "writeOnly",
})  # fmt: skip
# OpenAPI's keyword, not a misspelling.
_NO_SLIPS = frozenset({"example"})
_ALIKE = 0.8


def problem(value: Any, schema: Any) -> str | None:
    """Return why JSON data does not fit a schema, or None if it fits.

    The string lists up to three reasons, each with its place:

    >>> problem({"tags": ["a", 1]}, {"properties": {"tags": {"items": {"type": "string"}}}})
    'tags[1]: 1 is not of type "string"'

    Raises:
        EnvironmentFailure: the schema is more than a type, and jsonschema-rs is not installed.
    """
    found = [at(_path(path), reason) for path, reason in reasons(value, schema)]
    more = [] if len(found) <= _MOST_REASONS else ["and more"]
    return "; ".join([*found[:_MOST_REASONS], *more]) or None


def reasons(
    value: Any, schema: Any, most: int = _MOST_REASONS + 1
) -> list[tuple[tuple[str | int, ...], str]]:
    """Return why JSON data does not fit a schema: keys and indexes of each place, and a reason.

    >>> reasons({"tags": ["a", 1]}, {"properties": {"tags": {"items": {"type": "string"}}}})
    [(('tags', 1), '1 is not of type "string"')]

    Raises:
        EnvironmentFailure: the schema is more than a type, and jsonschema-rs is not installed.
    """
    kind = _only_type(schema)
    if kind is not None:
        return [] if _TYPES[kind](value) else [((), f'{short(value)} is not of type "{kind}"')]
    try:
        found = islice(_validator(schema).iter_errors(value), most)
        return [(tuple(error.instance_path), _message(error)) for error in found]
    except (ValueError, RecursionError) as error:
        # A schema of another version's record, or a value with half a surrogate pair.
        return [((), f"it cannot be checked: {_message(error)}")]


def check_schema(schema: dict[str, Any], what: str, *, of_type: bool = False) -> None:
    """Check that answers to `what` can be validated against a schema.

    `of_type` means that the schema was generated from a Python type.

    Raises:
        UsageError: part of the schema cannot be checked; the message names the keyword.
        EnvironmentFailure: jsonschema-rs is not installed.
    """
    if _only_type(schema) is not None:
        return
    try:
        text = json.dumps(schema, allow_nan=False)
        if any(type(key) is not str for key in _keys(schema)):
            raise ValueError("keys of JSON objects are strings")
        text.encode()
        _validator(schema, knows_formats=not of_type)
    except (ValueError, TypeError, RecursionError) as error:
        raise _refused(what, _place_in_schema(error), _message(error)) from None
    if not of_type:
        _check_keywords(schema, what)
        _check_satisfiable(schema, what)


def at(path: str, reason: str) -> str:
    """Return a reason with its place in the value, without a place for the whole value."""
    return f"{path}: {reason}" if path else reason


def short(value: Any, most: int = _SHOWN) -> str:
    """Return a value as JSON, cut to this many characters."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= most else text[: most - 3] + "..."


_TYPES: dict[str, Callable[[Any], bool]] = {
    "any": lambda v: True,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: _is_number(v) and (isinstance(v, int) or v.is_integer()),
    "number": lambda v: _is_number(v),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _only_type(schema: Any) -> str | None:
    """Return the type of a schema that contains only a type, `any` for an empty schema."""
    if not isinstance(schema, dict) or not {"type", *_ANNOTATIONS}.issuperset(schema):
        return None
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) and kind in _TYPES and kind != "" else None


def _library() -> Any:
    try:
        import jsonschema_rs
    except ImportError as error:
        raise EnvironmentFailure(
            "A schema that is more than a type needs jsonschema-rs, which is not installed.",
            help="python -m pip install 'jsonschema-rs>=0.61.2,<1'",
        ) from error
    return jsonschema_rs


def _validator(schema: Any, *, knows_formats: bool = False) -> Validator:
    library = _library()
    made: Validator = library.validator_for(
        schema,
        formats=_FORMATS,
        validate_formats=True,
        ignore_unknown_formats=not knows_formats,
        offline=True,
        pattern_options=library.FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKS),
    )
    return made


def _check_keywords(schema: dict[str, Any], what: str) -> None:
    """Reject keywords that were meant as checks and would be ignored."""
    if schema.get("$schema", _OWN_URI).removesuffix("#") != _OWN_URI:
        return  # the keywords of another draft, which the library knows
    # A meta-schema finds subschemas everywhere, and does not mistake data of `const` for one.
    strict = {
        "$schema": _OWN_URI,
        "$id": "urn:kitaru:keywords",
        "$dynamicAnchor": "meta",
        "$ref": _OWN_URI,
        "propertyNames": {"enum": sorted(_KEYWORDS)},
    }
    for error in _validator(strict).iter_errors(schema):
        part: Any = error.instance
        for keyword in sorted(set(part) - _KEYWORDS if isinstance(part, dict) else ()):
            place = _path([*error.instance_path, keyword])
            if keyword in _OTHER_DRAFTS:
                reason = "draft 2020-12 has no such keyword"
                raise _refused(what, (keyword, place), reason)
            if meant := _meant(keyword):
                reason = f'no such keyword; use "{meant}"'
                raise _refused(what, (keyword, place), reason)


def _meant(keyword: str) -> str | None:
    if keyword in _NO_SLIPS or keyword.startswith("x-"):
        return None
    plain = {known.lower(): known for known in _KEYWORDS}
    return plain.get(nearest(re.sub("[_-]", "", keyword).lower(), plain, _ALIKE))


def _check_satisfiable(schema: dict[str, Any], what: str) -> None:
    library = _library()
    try:
        canonical = library.canonicalize(
            schema,
            offline=True,
            pattern_options=library.FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKS),
        )
    except Exception:  # not every schema has a canonical form
        return
    if canonical.satisfiability() == library.canonical.Satisfiability.NO:
        raise UsageError(
            f"The schema of {what} fits no value at all, so nobody could answer.",
            help=f"The schema is {short(schema, 400)}",
        )


def _refused(what: str, place: tuple[str, str], reason: str) -> UsageError:
    keyword, path = place
    where = f" at {path}" if path and path != keyword else ""
    named = f'its keyword "{keyword}"{where}: ' if keyword else ""
    return UsageError(
        f"The schema of {what} cannot be honoured: {named}{reason}.",
        help="Use the keywords of JSON Schema draft 2020-12, with all definitions in the schema.",
    )


def _place_in_schema(error: Exception) -> tuple[str, str]:
    """Return the keyword that an error is about and its path, as far as known."""
    path = getattr(error, "instance_path", None)
    if path:
        keyword = next((p for p in reversed(path) if p in _KEYWORDS), str(path[-1]))
        return str(keyword), _path(path)
    if _kind(error) == "Referencing":
        return ("$schema" if "meta-schema" in str(error) else "$ref"), ""
    return "", ""


def _keys(schema: Any) -> Iterator[Any]:
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield from part
            pending += part.values()
        elif isinstance(part, list | tuple):
            pending += part


def _message(error: Any) -> str:
    """Return the library's message with the missing choices and with shortened values."""
    match _kind(error):
        case "":
            return str(error)
        case "Enum":
            choices = ", ".join(map(short, error.kind.options))
            return f"{short(error.instance)} is not one of {choices}"
        case "AnyOf" | "OneOfNotValid":
            place = len(error.instance_path)
            firsts = [branch[0] for branch in error.kind.context if branch]
            reasons = [at(_path(one.instance_path[place:]), _message(one)) for one in firsts]
            return " and ".join(dict.fromkeys(reasons))
        case "Custom":  # of an unknown format, with advice for callers of the library
            return f"{str(error.message).partition('. ')[0]}; leave it out, or use a pattern"
        case "BacktrackLimitExceeded":
            return "a pattern of the schema takes too long to search in it"
    message: str = error.message
    for shown in _spellings(error.instance):
        if len(shown) > _SHOWN:
            message = message.replace(shown, short(error.instance))
    return message.removesuffix(".")


def _kind(error: Any) -> str:
    """Return the library's kind of an error, empty for other errors."""
    kind = getattr(error, "kind", None)
    return "" if kind is None else type(kind).__name__.removeprefix("ValidationErrorKind_")


def _spellings(value: Any) -> Iterator[str]:
    for sort in (False, True):
        yield json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort)


def _path(parts: Iterable[str | int]) -> str:
    """Return a path in JSON: `user.names[0]`, or `["first name"]` for other keys."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[\w$-]+", part):
            path += f".{part}" if path else part
        else:
            path += f"[{json.dumps(part, ensure_ascii=False)}]"
    return path


def _is_format(name: str) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        library = _library()
        return bool(library.is_valid({"format": name}, text, validate_formats=True))

    return check


def _is_date_time(text: str) -> bool:
    return _is_format("date-time")(text) or _parses("datetime", text)


def _is_time(text: str) -> bool:
    return _is_format("time")(text) or _parses("time", text)


def _is_duration(text: str) -> bool:
    # timedelta(seconds=-1.5) is written -PT1.5S.
    return _is_format("duration")(re.sub(r"[.,]\d+(?=S$)", "", text.removeprefix("-")))


def _parses(kind: str, text: str) -> bool:
    import datetime

    try:
        getattr(datetime, kind).fromisoformat(text)
    except ValueError:
        return False
    return True


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "time": _is_time,
    "duration": _is_duration,
}
