"""A finding is shown with its line, carets under the very columns, a reason and a fix."""

from __future__ import annotations

from kitaru_compiler.diagnostics.model import Diagnostic, Rule, Severity
from kitaru_compiler.diagnostics.render import in_order, render, summary, to_json

from kitaru.wire.plan import Span
from kitaru.wire.printable import rendered

SOURCE = """\
import kitaru

@kitaru.checkpoint
def draft():
    x = 1
    return kitaru.wait(name="ok")

while True:
    pass
    pass
"""


def rule(severity: Severity = "error", code: str = "KIT402") -> Rule:
    return Rule(code, "wait-in-checkpoint", severity, "what", "why", "bad", "good")


def span(line: int, column: int, end_line: int, end_column: int, file: str = "flow.py") -> Span:
    return Span(file, line, column, end_line, end_column)


def test_two_spans_and_a_fix() -> None:
    found = Diagnostic(
        rule(),
        span(6, 12, 6, 34),
        "a checkpoint cannot wait",
        label="suspends the flow",
        help="move the wait into the flow:\n    ok = kitaru.wait()",
        related=((span(4, 1, 4, 12), "this checkpoint"),),
    )
    assert render([found], {"flow.py": SOURCE}) == (
        "error[KIT402]: a checkpoint cannot wait\n"
        " --> flow.py:6:12\n"
        "  |\n"
        "4 | def draft():\n"
        "  | ----------- this checkpoint\n"
        "5 |     x = 1\n"
        '6 |     return kitaru.wait(name="ok")\n'
        "  |            ^^^^^^^^^^^^^^^^^^^^^^ suspends the flow\n"
        "  |\n"
        "  = help: move the wait into the flow:\n"
        "              ok = kitaru.wait()\n"
    )


def test_lines_far_apart_are_not_all_shown() -> None:
    found = Diagnostic(
        rule(), span(8, 1, 10, 9), "m", label="kept", related=((span(1, 8, 1, 14), "here"),)
    )
    assert render([found], {"flow.py": SOURCE}) == (
        "error[KIT402]: m\n"
        " --> flow.py:8:1\n"
        "  |\n"
        "1 | import kitaru\n"
        "  |        ------ here\n"
        "...\n"
        "8 | while True:\n"
        "  | ^^^^^^^^^^^ kept (to line 10)\n"
    )


def test_columns_of_tabs_wide_and_combining_characters() -> None:
    source = "\tx = '日本', é = bad\n"
    column = source.index("bad") + 1
    found = Diagnostic(rule(), span(1, column, 1, column + 3), "m")
    lines = render([found], {"flow.py": source}).splitlines()
    shown, under = lines[3], lines[4]
    before = shown[: shown.index("bad")]
    wide, combining = 2, 0
    assert before.count("日") + before.count("本") == wide
    assert under.index("^") == len(before) + wide - combining
    assert under.count("^") == 3


def test_a_combining_character_takes_no_cell() -> None:
    source = "e\u0301 = bad\n"
    found = Diagnostic(rule(), span(1, 6, 1, 9), "m")
    under = render([found], {"flow.py": source}).splitlines()[4]
    assert under == "  |     ^^^"


def test_a_line_ends_where_python_ends_it() -> None:
    source = "a = '\x0c\u2028'\rbad\r\n"
    found = Diagnostic(rule(), span(2, 1, 2, 4), "m")
    assert "2 | bad" in render([found], {"flow.py": source})


def test_source_cannot_drive_the_terminal() -> None:
    found = Diagnostic(rule(), span(1, 1, 1, 2), "m")
    assert "\x1b" not in render([found], {"flow.py": "x = '\x1b[2J\u202e'\n"})


def test_no_source_and_no_line_still_show_the_place() -> None:
    found = Diagnostic(rule(), span(99, 1, 99, 2), "m")
    assert "flow.py:99:1" in render([found], {})
    assert "flow.py:99:1" in render([found], {"flow.py": SOURCE})


def test_another_file_gets_its_own_snippet() -> None:
    found = Diagnostic(
        rule(), span(1, 1, 1, 7), "m", related=((span(1, 1, 1, 2, "other.py"), "here"),)
    )
    text = render([found], {"flow.py": SOURCE, "other.py": "y = 2\n"})
    assert " ::: other.py:1:1\n  |\n1 | y = 2\n  | - here\n" in text


def test_color_only_when_asked() -> None:
    found = Diagnostic(rule("warning"), span(1, 1, 1, 7), "m", help="h")
    assert "\x1b[1;33mwarning[KIT402]" in rendered(
        render([found], {"flow.py": SOURCE}, color=True), color=True
    )
    assert "\x1b" not in render([found], {"flow.py": SOURCE})


def test_order_and_summary() -> None:
    note = Diagnostic(rule("note", "KIT310"), span(6, 1, 6, 2), "m")
    error = Diagnostic(rule(), span(6, 1, 6, 2), "m")
    early = Diagnostic(rule("note", "KIT310"), span(2, 1, 2, 2), "m")
    assert in_order([note, error, early]) == [early, error, note]
    assert summary([note, error, early]) == "1 error, 2 notes"
    assert summary([]) == ""
    assert render([], {}) == ""


def test_json_has_the_keys_that_checks_use() -> None:
    found = Diagnostic(rule(), span(6, 12, 6, 34), "m", help="h")
    document = to_json(found)
    assert {k: document[k] for k in ("code", "severity", "file", "line", "column")} == {
        "code": "KIT402",
        "severity": "error",
        "file": "flow.py",
        "line": 6,
        "column": 12,
    }
    assert (document["message"], document["help"]) == ("m", "h")
