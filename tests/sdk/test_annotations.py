"""Annotations of inputs: constraints count, and one that cannot be resolved affects only itself."""

from __future__ import annotations

import importlib
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field

import kitaru
from kitaru import KitaruClient, flow
from kitaru.errors import AnswerInvalid, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Level(Enum):
    LOW = "low"
    HIGH = "high"


@flow
def partly(day: date, level: Level, names: Sequence[str]) -> Missing:  # type: ignore[name-defined]  # noqa: F821
    return [repr(day), repr(level), names]


@flow
def positive(n: Annotated[int, Field(gt=0)]) -> int:
    return n


@flow
def short(x: Annotated[str | None, Field(max_length=3)] = None) -> str | None:
    return x


@flow
def many(xs: list[Annotated[int, Field(ge=1)]]) -> list[int]:
    return xs


@flow
def documented(n: Annotated[int, "how many"]) -> int:
    return n


def test_names_for_type_checkers_leave_the_others_checked() -> None:
    given = {"day": "2021-06-30", "level": "high", "names": ["a"]}
    result = partly.options().start(given).wait(60)  # type: ignore[attr-defined]
    assert result == ["datetime.date(2021, 6, 30)", "<Level.HIGH: 'high'>", ["a"]]
    with pytest.raises(InputError, match="day"):
        partly.options().start({**given, "day": "soon"})
    with pytest.raises(InputError, match="level"):
        partly.run(date(2021, 6, 30), "high", ["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "name", "good", "bad"),
    [
        (positive, "n", 5, -5),
        (positive, "n", 1, 0),
        (short, "x", "abc", "toolong"),
        (short, "x", None, "toolong"),
        (many, "xs", [1, 2], [1, 0]),
    ],
)
def test_constraints_are_checked_before_anything_runs(
    of: Any, name: str, good: Any, bad: Any
) -> None:
    assert of.run(**{name: good}).wait(60) == good
    assert of.options().start({name: good}).wait(60) == good
    with pytest.raises(InputError, match=name):
        of.run(**{name: bad})
    with pytest.raises(InputError, match=name):
        of.options().start({name: bad})


def test_an_annotation_may_hold_words() -> None:
    assert documented.run(3).wait(60) == 3
    with pytest.raises(InputError):
        documented.run("3")  # type: ignore[arg-type]


@flow
def chosen(level: Literal[Level.HIGH, Level.LOW], n: Literal[1, True] = 1) -> list[str]:
    answer = kitaru.wait(name="w", schema=Literal[Level.HIGH])
    return [repr(level), repr(answer), repr(n)]


@pytest.mark.parametrize(("n", "kept"), [(1, "1"), (True, "True")])
def test_members_of_an_enum_may_be_the_choices(n: Any, kept: str) -> None:
    handle = chosen.options().start({"level": "low", "n": n})
    assert handle.settle(60) == "waiting"
    executions = KitaruClient().executions
    [wait] = executions.get(handle.exec_id).waits
    assert wait.schema == {"enum": ["high"]}
    with pytest.raises(AnswerInvalid):
        executions.input(handle.exec_id, "low")
    result = executions.input(handle.exec_id, "high").wait(60)
    assert result == ["<Level.LOW: 'low'>", "<Level.HIGH: 'high'>", kept]
    with pytest.raises(InputError, match="level"):
        chosen.options().start({"level": "other"})


SOURCE = """\
from __future__ import annotations
import typing
from kitaru import flow

if typing.TYPE_CHECKING:
    import datetime as dt
    import collections.abc
    from decimal import Decimal as Exact, nothing
    from types_of_orders_{0} import Order
    from not_installed import Missing
    from hypothesis.errors import Flaky

@flow
def main(
    when: dt.date, price: Exact, order: Order, rows: collections.abc.Sequence[int],
    a: Missing, b: nothing, c: Flaky, n: int,
) -> Missing:
    return [repr(x) for x in (when, price, order, rows, a, b, c, n)]
"""
ORDERS = "from dataclasses import dataclass\n@dataclass\nclass Order:\n    count: int\n"


def test_what_is_imported_for_type_checkers_is_found_where_steps_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tmp_path.name.replace("-", "_")
    (tmp_path / f"types_of_orders_{name}.py").write_text(ORDERS, encoding="utf-8")
    (tmp_path / f"flow_{name}.py").write_text(SOURCE.format(name), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    main = importlib.import_module(f"flow_{name}").main
    unknown = {"a": "a", "b": "b", "c": "c"}
    known = {"when": "2021-06-30", "price": "1.50", "order": {"count": 3}, "rows": [1], "n": 4}
    assert main.options().start({**known, **unknown}).wait(60) == [
        "datetime.date(2021, 6, 30)",
        "Decimal('1.50')",
        "Order(count=3)",
        "[1]",
        "'a'",
        "'b'",
        "'c'",
        "4",
    ]
    wrong = {"when": "soon", "price": "much", "order": {"count": "3"}, "rows": ["1"], "n": "4"}
    for which, value in wrong.items():
        with pytest.raises(InputError, match=which):
            main.options().start({**known, **unknown, which: value})
