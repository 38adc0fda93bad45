"""Which part of a long list a command shows, and how it offers the next part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from kitaru.cli.output import Output

T = TypeVar("T")

# What people read at once, and what a JSON document contains, where nothing else is asked for.
LINES = 100
JSON_ITEMS = 1_000


@dataclass(frozen=True)
class Part(Generic[T]):
    """Some items of a list; `next` is how many to skip for the part behind, None for the last."""

    items: list[T]
    next: int | None

    def document(self, items: list[Any]) -> dict[str, Any]:
        """Return the JSON of this part; `items` is what each of its items is as JSON."""
        return {"items": items, "count": len(items), "next": self.next}


def part(found: Iterable[T], output: Output, limit: int | None, skip: int) -> Part[T]:
    """Return the part of a list that a command is asked for; no more of it is read."""
    most = limit or (JSON_ITEMS if output.as_json else LINES)
    return part_of(list(islice(found, skip, skip + most + 1)), most, skip)


def part_of(some: list[T], most: int, skip: int) -> Part[T]:
    """Return the part that begins after `skip` items; `some` has one more where there is one."""
    return Part(some[:most], skip + most if len(some) > most else None)


def show_more(output: Output, of: Part[Any]) -> None:
    """Offer the part behind, where there is one."""
    if of.next is not None:
        output.note(f"there are more: --skip {of.next}", hang=2)
