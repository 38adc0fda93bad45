"""Decides which JSON stands for any that fits a schema: the shortest that has its types."""

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
    """Return JSON data with a schema's types, `text` where it wants a string.

    Limits that types do not tell, a pattern for example, may leave it one that does not fit.
    """
    return _sample(schema, schema, text, 0)


def _sample(schema: Any, root: dict[str, Any], text: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _sample(_target(schema["$ref"], root), root, text, depth + 1)
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
            items = schema.get("prefixItems") or [schema.get("items")] * schema.get("minItems", 0)
            return [_sample(item, root, text, depth + 1) for item in items]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return False
        case "string":
            return _FORMATS.get(schema.get("format", ""), text)[: schema.get("maxLength")]
    return None


def _target(reference: str, root: Any) -> Any:
    for part in reference.removeprefix("#").split("/")[1:]:
        root = root[part.replace("~1", "/").replace("~0", "~")]
    return root
