"""The examples in the docstrings of passes are what the passes do."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.compiler.pass_examples import NAMES, after, examples

EXAMPLES = [
    pytest.param(name, before, made, id=f"{name}-{number}")
    for name in NAMES
    for number, (before, made) in enumerate(
        examples(import_module(f"kitaru_compiler.passes.{name}").__doc__ or ""), 1
    )
]


@pytest.mark.parametrize(("name", "before", "made"), EXAMPLES)
def test_the_example_is_what_the_pass_does(name: str, before: str, made: str) -> None:
    assert after(name, before) == made


def test_every_pass_has_an_example() -> None:
    assert {param.values[0] for param in EXAMPLES} == set(NAMES)
