"""Drawing a flow from the command line."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from . import flows
from .conftest import Kitaru


@pytest.fixture
def review(kitaru: Kitaru) -> Kitaru:
    kitaru.write("review.py", flows.REVIEW + "raise SystemExit('imported')\n")
    return kitaru


def test_mermaid_unless_something_else_is_asked_for(review: Kitaru) -> None:
    out = review("graph", "review.py").out
    assert out.startswith('flowchart TD\n  n0(["review(topic)<br/>review.py:25"])\n')
    assert review("graph", "review.py", "--format", "mermaid").out == out
    assert review("graph", "review.py", "--format", "dot").out.startswith('digraph "review" {\n')


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("g.mmd", "flowchart TD"),
        ("g.dot", 'digraph "review" {'),
        ("g.svg", "<svg xmlns="),
        ("g.html", "<!doctype html>"),
    ],
)
def test_the_name_of_the_file_says_the_format(name: str, first: str, review: Kitaru) -> None:
    done = review("graph", "review.py", "-o", name)
    assert (done.out, done.err) == ("", f"wrote {name}\n")
    text = (review.folder / name).read_text(encoding="utf-8")
    assert text.startswith(first)
    other = review(
        "graph", "review.py", "-o", "other.txt", "--format", name[2:].replace("mmd", "mermaid")
    )
    assert other.err == "wrote other.txt\n"
    assert (review.folder / "other.txt").read_text(encoding="utf-8") == text


def test_a_target_and_a_granularity_decide_the_cuts(review: Kitaru) -> None:
    def steps(*options: str) -> list[str]:
        document = review("graph", "review.py", "--json", *options).document
        return [node["step"] for node in document["nodes"] if node["step"]]

    assert steps() == steps("--target", "vertex") == ["research", "draft"]
    assert steps("--granularity", "single") == ["start"]
    page = review("graph", "review.py", "--target", "vertex", "--format", "html").out
    assert "Vertex AI Pipelines" in page


def test_json_is_the_graph(review: Kitaru) -> None:
    document = review("graph", "review.py", "--json", "-o", "g.svg").document
    assert document["file"] == "g.svg"
    assert ET.parse(review.folder / "g.svg").getroot().tag.endswith("svg")
    (wait,) = [node for node in document["nodes"] if node["kind"] == "wait"]
    assert (wait["title"], wait["span"]["line"]) == ("wait approve", 27)
    edge = {"source": "research", "target": "draft", "label": "", "cut": True, "critical": False}
    assert edge in document["edges"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["review.py", "-o", "g.png"], 2, "g.png"),
        (["review.py", "--target", "verteks"], 2, "verteks"),
        (["absent.py"], 2, "absent.py"),
        (["broken.py"], 1, "KIT101"),
    ],
)
def test_what_cannot_be_drawn(
    arguments: list[str], code: int, message: str, review: Kitaru
) -> None:
    review.write("broken.py", "def broken(:\n")
    error = review("graph", *arguments, "--json", code=code).error
    assert message in error["message"]
