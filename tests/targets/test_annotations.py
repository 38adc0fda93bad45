"""Inputs are refused before a run starts where the text of their annotation is certain.

KITARU_EXAMPLES=5000 .venv/bin/pytest tests/targets/test_annotations.py
"""

from __future__ import annotations

import os
import typing
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_targets.common import parameters
from kitaru_targets.common.annotations import schema_of

from kitaru.errors import AnswerInvalid, InputError
from kitaru.runtime.schema.types import from_json
from kitaru.runtime.schema.validate import problem
from kitaru.wire.plan import Parameter

from .programs import Do, plan

EXAMPLES = int(os.environ.get("KITARU_EXAMPLES", "100"))
SPACE = {**vars(typing), "typing": typing, "Field": pydantic.Field, "pydantic": pydantic}


@pytest.mark.parametrize(
    ("annotation", "fits", "does_not"),
    [
        ("Annotated[int, Field(gt=0)]", [1, 2**60], [0, -5]),
        ("typing.Annotated[int, pydantic.Field(default=3, ge=1, multiple_of=2)]", [2], [0, 3]),
        ("Annotated[str, Field(max_length=3)]", ["abc"], ["abcd"]),
        ("Annotated[list[Annotated[int, Field(le=9)]], Field(min_length=1)]", [[9]], [[], [10]]),
        ("Optional[Annotated[str, Field(min_length=2)]]", [None, "ab"], ["a", 1]),
        ("'Literal[1, \"a\"] | None'", [1, "a", None], [2, False, "1"]),
        ("dict[str, list[int]]", [{}, {"a": [1]}], [{"a": ["1"]}, []]),
        ("Union[int, str]", [1, "1"], [None, 1.5]),
    ],
)
def test_what_the_text_says_is_checked(
    annotation: str, fits: list[Any], does_not: list[Any]
) -> None:
    one = Parameter("x", "positional_or_keyword", "json", annotation, True, False)
    made = plan((Do("a"),), parameters=(one,))
    for value in fits:
        parameters.values(made, {"x": value})
    for value in does_not:
        with pytest.raises(InputError, match=r"input 'x' .* does not fit"):
            parameters.values(made, {"x": value})


@pytest.mark.parametrize(
    "annotation",
    ["", "Order", "list[Order]", "Any", "int +", "Sequence[int]", "Literal[Level.LOW]",
     "Annotated[Decimal, Field(gt=0)]", "Annotated[int, Positive()]", "tuple[int, str]",
     "Annotated[int, Field(gt=LIMIT)]", "x" * 10 + "[" * 500],
)  # fmt: skip
def test_what_the_text_does_not_say_is_left_to_the_step(annotation: str) -> None:
    schema = schema_of(annotation)
    assert schema in ({}, {"type": "array"}, {"type": "integer"})


ATOMS = st.sampled_from(["int", "float", "str", "bool", "None", "Any", "list", "dict", "bytes"])
BOUNDS = st.sampled_from(["gt=0", "ge=-1", "lt=2**3", "le=1", "multiple_of=3"])
SIZES = st.sampled_from(["min_length=1", "max_length=2", "min_length=1, max_length=1"])
ANNOTATIONS = st.recursive(
    ATOMS
    | st.sampled_from(["Literal[1, 'a']", "Literal[True, None]"])
    | BOUNDS.flatmap(lambda b: st.sampled_from([f"Annotated[int, Field({b})]",
                                                f"Annotated[float, Field({b})]"]))
    | SIZES.flatmap(lambda b: st.sampled_from([f"Annotated[str, Field({b})]",
                                               f"Annotated[list[int], Field({b})]"])),
    lambda inner: st.one_of(
        inner.map("list[{}]".format),
        inner.map("Optional[{}]".format),
        inner.map("dict[str, {}]".format),
        inner.map("set[int] | {}".format),
        st.tuples(inner, inner).map(lambda two: f"Union[{two[0]}, {two[1]}]"),
        st.tuples(inner, inner).map(lambda two: f"tuple[{two[0]}, {two[1]}]"),
    ),
    max_leaves=4,
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from([0.5, 2.0, "", "a", "1", "abc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


@settings(max_examples=EXAMPLES)
@given(ANNOTATIONS, VALUES)
def test_nothing_is_refused_that_the_step_takes(annotation: str, value: Any) -> None:
    """What pydantic makes of the annotation itself, in the step's own strictness, is the oracle."""
    kind = eval(annotation, SPACE)
    try:
        from_json(value, kind, "x", strict=True)
    except AnswerInvalid:
        return
    assert problem(value, schema_of(annotation)) is None
