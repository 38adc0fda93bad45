"""Example JSON for a schema: the schema's own example, or the shortest valid value.

A boolean is true. People who agree paste the command that is shown with a wait. In an object they
would not notice a single `false` that turns the answer into a refusal.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 20
_FORMATS = {
    "date": "2000-01-31",
    "date-time": "2000-01-31T12:00:00Z",
    "time": "12:00:00",
    "duration": "PT1M",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "nobody@example.com",
    "uri": "https://example.com/",
}


def sample(schema: Any, text: str) -> Any:
    """Return JSON data with a schema's types; `text` is the value of each string.

    The result may not fit a schema with other limits, for example a pattern.
    """
    return _sample(schema, schema, text, 0)


def _sample(schema: Any, root: dict[str, Any], text: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _sample(target(schema["$ref"], root), root, text, depth + 1)
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("default") is not None:
        return schema["default"]
    for choices in ("enum", "anyOf", "oneOf", "allOf"):
        if schema.get(choices):
            first = schema[choices][0]
            return first if choices == "enum" else _sample(first, root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    return _of_type(schema, root, text, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], text: str, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            names = schema.get("required", ())
            return {name: _sample(known.get(name), root, text, depth + 1) for name in names}
        case "array":
            # A limit may be the float 2.0, and may be larger than any command.
            few = min(int(schema.get("minItems", 0)), _DEEPEST)
            items = schema.get("prefixItems") or [schema.get("items")] * few
            return [_sample(item, root, text, depth + 1) for item in items]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return True
        case "string":
            longest = schema.get("maxLength")
            shown = _FORMATS.get(schema.get("format", ""), text)
            return shown if longest is None else shown[: int(longest)]
    return None


def target(reference: str, root: Any) -> Any:
    """Return the value at a pointer such as `#/$defs/User` into a schema; None for others."""
    if not reference.startswith("#"):
        return None
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, dict) else None
    return root
