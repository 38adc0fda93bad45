"""Decides how a recorded value is shown as JSON, where its classes need not be importable."""

from __future__ import annotations

import sys
from typing import Any

from kitaru.errors import KitaruError
from kitaru.runtime import codec
from kitaru.runtime.journal import Journal

_PLAIN = (str, int, bool, type(None))


def result_as_json(journal: Journal) -> Any:
    """Return a completed execution's result as JSON; `None` for any other."""
    end = journal.end()
    if end is None or end.result is None:
        return None
    document = journal.fetch(end.result)
    try:
        return as_json(codec.decode(document))
    except KitaruError:
        return document


def as_json(value: Any) -> Any:
    """Return a value as JSON that reads well: models as objects, tuples and sets as arrays."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {_key(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    if hasattr(type(value), "__dataclass_fields__"):
        return {name: as_json(getattr(value, name)) for name in value.__dataclass_fields__}
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    return str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(as_json(key))
