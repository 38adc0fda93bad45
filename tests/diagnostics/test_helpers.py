"""Findings in a helper are reported at its call, with the path to it."""

from __future__ import annotations

from pathlib import Path

from kitaru_compiler import check
from kitaru_compiler.diagnostics.render import render

STAMPS = """\
import time

def stamp():
    return str(now())

def now():
    return time.time()
"""
FLOW = """\
from kitaru import checkpoint, flow
from stamps import stamp

@checkpoint
def draft(x=0): return x

@flow
def main():
    return draft(stamp())
"""


def test_the_way_is_shown_in_the_other_file(tmp_path: Path) -> None:
    (tmp_path / "stamps.py").write_text(STAMPS)
    (tmp_path / "flow.py").write_text(FLOW)
    found, sources, *_ = check(tmp_path / "flow.py")
    assert render(found, sources) == (
        "warning[KIT202]: `stamp`, called in the flow's body, reads the clock: a resume or a later "
        "step sees another time\n"
        " --> flow.py:9:18\n"
        "  |\n"
        "9 |     return draft(stamp())\n"
        "  |                  ^^^^^^^\n"
        " ::: stamps.py:4:16\n"
        "  |\n"
        "4 |     return str(now())\n"
        "  |                ----- through this call\n"
        "...\n"
        "7 |     return time.time()\n"
        "  |            ----------- `time.time` reads the clock\n"
        "  |\n"
        "  = help: read it in a checkpoint, whose result is recorded: `@checkpoint def now(): …`\n"
    )


def test_each_call_is_told_and_each_rule_once(tmp_path: Path) -> None:
    source = FLOW.replace("from stamps import stamp", "import time, uuid, helpers")
    helpers = "def one():\n    x = time.time(), time.time_ns(), uuid.uuid4()\n    return two(x)\n"
    helpers += "def two(x):\n    return one() or time.time()\n"
    (tmp_path / "helpers.py").write_text("import time, uuid\n" + helpers)
    body = "draft(helpers.one())\n    return draft(helpers.one())"
    (tmp_path / "flow.py").write_text(source.replace("return draft(stamp())", body))
    found = [(d.code, d.span.line, d.related[-1][1]) for d in check(tmp_path / "flow.py")[0]]
    reads = [
        ("KIT202", "`time.time` reads the clock"),
        ("KIT203", "`uuid.uuid4` is random"),
    ]
    assert found == [(code, line, label) for line in (9, 10) for code, label in reads]


def test_a_comment_at_the_call_silences_it(tmp_path: Path) -> None:
    (tmp_path / "stamps.py").write_text(STAMPS)
    (tmp_path / "flow.py").write_text(FLOW.rstrip() + "  # kitaru: ignore[KIT202]\n")
    assert [d.silenced for d in check(tmp_path / "flow.py")[0]] == [True]
