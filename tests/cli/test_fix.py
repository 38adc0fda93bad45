"""Fixing a flow from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixes.test_files import FIXED, SOURCE

from .conftest import Kitaru


@pytest.fixture
def flow(kitaru: Kitaru) -> Path:
    return kitaru.write("flow.py", SOURCE)


def test_the_command_fixes_a_file(kitaru: Kitaru, flow: Path) -> None:
    done = kitaru("check", str(flow), "--fix")
    assert flow.read_text(encoding="utf-8") == FIXED
    assert "fixed KIT604" in done.err


def test_a_diff_writes_nothing(kitaru: Kitaru, flow: Path) -> None:
    done = kitaru("check", str(flow), "--fix", "--diff", code=1)
    assert flow.read_text(encoding="utf-8") == SOURCE
    assert "+@checkpoint(retries=3)  # café" in done.out
    flow.write_text(FIXED, encoding="utf-8")
    again = kitaru("check", str(flow), "--fix", "--diff")
    assert "@@" not in again.out


def test_a_document_lists_what_was_fixed(kitaru: Kitaru, flow: Path) -> None:
    document = kitaru("check", str(flow), "--fix", "--json").document
    assert [one["code"] for one in document["fixed"]] == ["KIT413", "KIT604", "KIT507"]
    assert document["diagnostics"] == []
    assert "one_2" in document["diff"]


@pytest.mark.parametrize("option", ["--diff", "--unsafe-fixes"])
def test_options_of_fix_without_fix_are_refused(kitaru: Kitaru, flow: Path, option: str) -> None:
    done = kitaru("check", str(flow), option, code=2)
    assert "--fix" in done.err
