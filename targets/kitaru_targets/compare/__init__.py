"""Compare two compilations: added, removed and changed steps and waits, with reasons."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kitaru_targets.compare.code import Code
from kitaru_targets.compare.side import Side, Unit, of_build, of_execution

__all__ = ["Change", "Difference", "Reason", "Side", "compare", "of_build", "of_execution"]


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason for a changed unit: the changed part, its old and its new value.

    `before` is None for an addition, `after` for a removal. `lines` are the changed lines of code,
    each after `- ` or `+ `. Then `before` and `after` are empty.
    """

    what: str
    before: Any = None
    after: Any = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A step, a wait or the flow itself: `added`, `removed`, or `changed` for `reasons`."""

    how: str
    kind: str
    name: str
    place: str
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """The changes from `a` to `b`; without changes both behave the same."""

    a: Side
    b: Side
    changes: tuple[Change, ...]


def compare(old: Side, new: Side) -> Difference:
    """Compare `new` with `old`; comments, layout and docstrings do not count.

    Steps are matched by name. Facts that only one side has are not compared.

        compare(of_build(read(Path("old"))), of_build(read(Path("build/review/vertex")))).changes
    """
    before, after = (_by_name(old), _by_name(new))
    changes = [_change(before.get(key), unit) for key, unit in after.items()]
    gone = [
        Change("removed", unit.kind, unit.name, unit.place)
        for key, unit in before.items()
        if key not in after
    ]
    return Difference(old, new, (*gone, *(change for change in changes if change)))


def _by_name(side: Side) -> dict[tuple[str, str], Unit]:
    # Each side has exactly one flow, so its name does not matter.
    return {(unit.kind, "" if unit.kind == "flow" else unit.name): unit for unit in side.units}


def _change(old: Unit | None, new: Unit) -> Change | None:
    if old is None:
        return Change("added", new.kind, new.name, new.place)
    reasons = (*_code(old.code, new.code), *_facts(old.facts, new.facts))
    return Change("changed", new.kind, new.name, new.place, reasons) if reasons else None


def _facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Reason]:
    found = []
    for what, value in new.items():
        if what not in old:
            continue
        before = old[what]
        if isinstance(value, dict):
            found += _entries(what, before, value)
        elif value != before:
            found.append(Reason(what, before, value))
    return found


def _entries(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Reason]:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [Reason(f"{what} {name}", old.get(name), new.get(name)) for name in names]


def _code(old: Code, new: Code) -> list[Reason]:
    found = []
    lines = _changed_lines(old.lines, new.lines)
    if lines:
        found.append(Reason("code", lines=lines))
    for key in {**old.definitions, **new.definitions}:
        before, after = old.definitions.get(key), new.definitions.get(key)
        if before is None or after is None or before[0] != after[0]:
            module, _, name = key.partition(":")
            what = f"code of {name}" if name else f"use of {module}"
            found.append(Reason(what, before and before[1], after and after[1]))
    return found


def _changed_lines(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    compared = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    return tuple(f"{line[0]} {line[1:]}" for line in compared if not line.startswith("@@"))
