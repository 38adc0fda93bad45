"""Pages of long lists: which part a command shows, and how to get the next part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from kitaru.cli.output import Output

T = TypeVar("T")

# Default page sizes: for people, and in a JSON document.
LINES = 100
JSON_ITEMS = 1_000


@dataclass(frozen=True)
class Part(Generic[T]):
    """A page of a list. `next` is how many items to skip for the next page, None at the end."""

    items: list[T]
    next: int | None

    def document(self, items: list[Any]) -> dict[str, Any]:
        """Return this page as JSON. `items` are its items as JSON."""
        return {"items": items, "count": len(items), "next": self.next}


def part(found: Iterable[T], output: Output, limit: int | None, skip: int) -> Part[T]:
    """Return the page of a list that a command shows. Later items are not read."""
    most = limit or (JSON_ITEMS if output.as_json else LINES)
    return part_of(list(islice(found, skip, skip + most + 1)), most, skip)


def part_of(some: list[T], most: int, skip: int) -> Part[T]:
    """Return the page after `skip` items. `some` contains one item more if a page follows."""
    return Part(some[:most], skip + most if len(some) > most else None)


def show_more(output: Output, of: Part[Any]) -> None:
    """Print how to get the next page, if there is one."""
    if of.next is not None:
        output.note(f"there are more: --skip {of.next}", hang=2)
