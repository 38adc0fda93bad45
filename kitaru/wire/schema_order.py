"""The order of the properties of a JSON schema, in records whose JSON is canonical.

Canonical JSON sorts the keys of objects, and a form would show its most important field wherever
its name sorts. So a record stores the declared order beside the properties, if it is another one:

    {"properties": {"verdict": {…}, "amount": {…}}}
    {"properties": {…}, "x-kitaru-order": ["verdict", "amount"]}        in the record

A reader restores the order and removes the note, so no other code sees it.
"""

from __future__ import annotations

from typing import Any

_ORDER = "x-kitaru-order"


def with_order(schema: Any) -> Any:
    """Return a schema with the order of its properties noted, at any depth."""
    if isinstance(schema, list):
        return [with_order(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    noted = {name: with_order(part) for name, part in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and list(properties) != sorted(properties):
        noted[_ORDER] = list(properties)
    return noted


def in_order(stored: Any) -> Any:
    """Return a schema whose properties have the order that `with_order` noted."""
    if isinstance(stored, list):
        return [in_order(part) for part in stored]
    if not isinstance(stored, dict):
        return stored
    schema = {name: in_order(part) for name, part in stored.items() if name != _ORDER}
    order, properties = stored.get(_ORDER), schema.get("properties")
    if isinstance(order, list) and isinstance(properties, dict):
        schema["properties"] = {name: properties[name] for name in order}
    return schema
