"""Every diagnostic is explained, on the terminal and on the page of all rules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap

import pytest
from kitaru_compiler.diagnostics import catalogue, explain

from kitaru.errors import UsageError

from .conftest import Kitaru

CODES = catalogue.codes()


def test_there_are_rules() -> None:
    assert "KIT101" in CODES
    assert sorted(CODES) == CODES


@pytest.mark.parametrize("code", CODES)
def test_a_rule_says_what_why_and_what_to_write(code: str) -> None:
    rule = catalogue.load(code)
    assert rule.code == code
    assert code[3] in explain.FAMILIES
    assert rule.what and rule.why and rule.good
    text = explain.explain(rule)
    assert max(map(len, text.splitlines())) <= 100
    assert textwrap.dedent(rule.good).strip().splitlines()[0].strip() in text


# What a target asks for may stand in another file, such as a list of requirements.
@pytest.mark.parametrize("code", [code for code in CODES if code[3] != "5"])
def test_the_good_example_is_python_or_a_command(code: str) -> None:
    good = textwrap.dedent(catalogue.load(code).good).strip()
    if not re.match(r"(\w+=\S+ )*kitaru ", good):
        ast.parse(good)


@pytest.mark.parametrize("text", ["KIT101", "kit101", "101", " KIT101 "])
def test_a_code_is_found_however_it_is_typed(text: str) -> None:
    assert catalogue.load(text).code == "KIT101"


def test_an_unknown_code_names_its_family() -> None:
    with pytest.raises(UsageError) as caught:
        catalogue.load("KIT199")
    assert "KIT101" in caught.value.help and "KIT310" not in caught.value.help


def test_the_page_holds_every_rule() -> None:
    page = subprocess.run(
        [sys.executable, "-m", "kitaru_compiler.diagnostics.explain"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert [line[4:10] for line in page.splitlines() if line.startswith("### ")] == CODES


def test_the_command(kitaru: Kitaru) -> None:
    assert kitaru("explain", "KIT101").out.startswith("KIT101 ")
    assert kitaru("explain", "KIT101", "--json").document["code"] == "KIT101"
    listed = kitaru("explain", "--json").document
    assert (listed["count"], [item["code"] for item in listed["items"]]) == (len(CODES), CODES)
    assert len(kitaru("explain").out.splitlines()) == len(CODES)
    assert kitaru("explain", "KIT999", code=2).err.endswith("All codes: kitaru explain\n")
