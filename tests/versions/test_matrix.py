"""Every code change of the matrix does what its line says."""

from __future__ import annotations

import pytest

from tests.versions.matrix import CASES, MATRIX, outcome, row

LINES = MATRIX.read_text().splitlines()


@pytest.mark.parametrize("number", range(1, len(CASES) + 1))
def test_line(number: int) -> None:
    assert row(number) in LINES


def test_the_matrix_has_no_other_lines() -> None:
    assert sum(line.startswith("| ") for line in LINES) == len(CASES) + 1


def test_a_payment_is_made_again_only_where_the_code_declares_it_new() -> None:
    paid = [case.change for case in CASES if {"pay", "send_payment"} & {*outcome(case).ran}]
    assert paid == ["… declared wrongly: `added`"]


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ("a recorded checkpoint is renamed", 'kitaru.renamed("send_payment", checkpoint="pay")'),
        ("one is added before recorded ones", 'kitaru.added(checkpoint="audit")'),
        ("it gets `id=`", 'kitaru.renamed("route", checkpoint="way")'),
        ("the pending wait is renamed", 'kitaru.renamed("approve", wait="sign_off")'),
        ("the pending wait is removed", 'kitaru.removed(wait="approve")'),
        ("an input is renamed", 'kitaru.renamed("payee", input="receiver")'),
        ("an input is removed", 'kitaru.removed(input="amount")'),
        ("the flow's function is renamed", '@flow(name="main")'),
    ],
)
def test_an_error_shows_what_to_declare(change: str, remedy: str) -> None:
    (case,) = [one for one in CASES if one.change == change]
    assert remedy in outcome(case).help
