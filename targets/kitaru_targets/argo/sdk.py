"""Read a document with Hera's models, which are made from Argo's API."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

SCHEDULE = "schedule.yaml"


def problems(path: Path) -> Iterator[str]:
    """Yield what Hera says of a document, and of the schedule beside it.

    Its models drop unknown fields, so a document that is different after reading and writing has
    some.
    """
    models = import_module("hera.workflows.models")
    for file in (path, path.with_name(SCHEDULE)):
        if file != path and not file.exists():
            continue
        document, *_ = yaml.safe_load_all(file.read_text(encoding="utf-8"))
        try:
            read = getattr(models, document["kind"])(**document)
            dumped = yaml.safe_load(read.json(exclude_none=True, exclude_unset=True, by_alias=True))
        except Exception as error:
            yield repr(error)
        else:
            yield from _different(document, dumped)


def _different(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Yield the places at which a value was lost or changed."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _different(one.get(key), other.get(key), f"{place}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _different(*pair, f"{place}/{index}")
    elif one != other:
        yield f"{place}: {one!r} became {other!r}"
