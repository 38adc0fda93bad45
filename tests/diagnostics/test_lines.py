"""A line fits the terminal: what is marked stays in sight, carets stay under it."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st
from kitaru_compiler.diagnostics.lines import Line, cells_of

ALPHABET = "ab \t日本é\u0301👩\u200d"


def test_a_short_line_is_shown_whole() -> None:
    line = Line("    return draft(x)\n", [(11, 19)], 40)
    assert (line.shown, line.under(11, 19, "^")) == ("    return draft(x)", " " * 11 + "^" * 8)


def test_a_long_line_is_cut_around_the_mark() -> None:
    line = Line("a" * 50 + "bad" + "c" * 50, [(50, 53)], 21)
    assert line.shown == "…" + "a" * 8 + "bad" + "c" * 8 + "…"
    assert line.under(50, 53, "^") == " " * 9 + "^^^"


def test_several_marks_are_seen_when_they_fit() -> None:
    text = "x" * 40 + "one" + "." * 10 + "two" + "x" * 40
    line = Line(text, [(53, 56), (40, 43)], 30)
    assert "one..........two" in line.shown
    tight = Line(text, [(53, 56), (40, 43)], 10)
    assert "two" in tight.shown and "one" not in tight.shown


def test_a_mark_behind_the_end_and_one_wider_than_the_room() -> None:
    assert Line("def f(", [(6, 7)], 40).under(6, 7, "^") == " " * 6 + "^"
    line = Line("x" * 100, [(10, 90)], 20)
    assert len(line.shown) == 20 and line.under(10, 90, "^").count("^") >= 18


def test_half_a_wide_character_is_no_character() -> None:
    for start in range(6, 14):
        line = Line("日本語" * 10, [(start, start + 1)], 11)
        assert cells_of(line.shown) <= 11
        assert "日本語"[start % 3] in line.shown


SOME = st.text(ALPHABET, max_size=40)


@example("\t", "日", " 👩\u0301é", 8)
@given(SOME, st.sampled_from("ab日本"), SOME, st.integers(8, 60))
def test_carets_stand_under_what_is_marked(before: str, it: str, after: str, room: int) -> None:
    text, start = before + it + after, len(before)
    line = Line(text, [(start, start + 1)], room)
    assert cells_of(line.shown) <= room
    under = line.under(start, start + 1, "^")
    cells: list[str] = []
    for c in line.shown:
        if unicodedata.category(c) != "Mn":
            cells += [c, ""] if unicodedata.east_asian_width(c) in "WF" else [c]
    assert cells[under.index("^")] == it
    assert under.count("^") == (2 if it in "日本" else 1)
