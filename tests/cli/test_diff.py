"""Comparing builds from the command line."""

from __future__ import annotations

import pytest

from . import flows
from .conftest import Kitaru

CHANGED = flows.REVIEW.replace('f"draft of {brief}"', 'f"a draft of {brief}"')


@pytest.fixture
def review(kitaru: Kitaru) -> Kitaru:
    kitaru.write("review.py", flows.REVIEW)
    kitaru("compile", "review.py", "--target", "vertex", "--granularity", "fused")
    return kitaru


BUILD = "build/review/vertex"


def test_equal_ends_with_0(review: Kitaru) -> None:
    assert review("diff", BUILD, BUILD).out == "review for vertex: no difference\n"
    document = review("diff", "review.py", BUILD, "--json").document
    side = {"flow": "review", "target": "vertex"}
    assert document == {
        "equal": True, "a": side, "b": side, "added": [], "removed": [], "changed": [],
    }  # fmt: skip


def test_different_ends_with_1_and_says_why(review: Kitaru) -> None:
    review.write("new/review.py", CHANGED)
    done = review("diff", BUILD, "new/review.py", code=1)
    assert done.out == (
        "review for vertex: 2 changed\n"
        "  ~ flow review  review.py:25  file review.py\n"
        "  ~ start        review.py:25  code of draft\n"
    )
    document = review("diff", BUILD, "new/review.py", "--json", code=1).document
    assert document["equal"] is False
    reason = {"what": "code of draft", "before": "review.py:19", "after": "review.py:19"}
    assert document["changed"][1]["reasons"] == [{**reason, "lines": []}]


def test_lines_and_order_stand_below(review: Kitaru) -> None:
    new = flows.REVIEW.replace("draft(research(topic))", "research(draft(topic))")
    review.write("new/review.py", new.replace("if approved", "if not approved"))
    out = review("diff", BUILD, "new/review.py", code=1).out
    assert "  ~ wait approve" in out and "order" in out
    assert "\n      - after draft\n      + after research\n" in out


def test_a_configured_image_counts(review: Kitaru) -> None:
    review.write("pyproject.toml", '[tool.kitaru]\nimage = "configured:1"\n')
    out = review("diff", BUILD, "review.py", code=1).out
    assert "image python:3.11-slim → configured:1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["review.py", "review.py"], 2, "Neither review.py nor review.py"),
        ([BUILD, "absent.py"], 2, "absent.py does not exist"),
        ([BUILD, "build"], 2, "build is a directory, but no build"),
        ([BUILD, "absent"], 2, "absent"),
        ([BUILD], 2, "A comparison needs two sides"),
        ([BUILD, "broken.py"], 1, "KIT101"),
    ],
)
def test_what_cannot_be_compared(
    arguments: list[str], code: int, message: str, review: Kitaru
) -> None:
    review.write("broken.py", "def broken(:\n")
    assert message in review("diff", *arguments, "--json", code=code).error["message"]


def test_a_build_that_was_changed_by_hand_is_refused(review: Kitaru) -> None:
    (review.folder / BUILD / "steps.py").write_text("")
    error = review("diff", BUILD, "review.py", "--json", code=2).error
    assert "steps.py changed" in error["message"]
