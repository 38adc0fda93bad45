"""State outside the frame: a program that is cut sees the state that plain Python sees.

For more generated programs:
`KITARU_FUZZ_EXAMPLES=5000 pytest tests/differential/test_module_state.py -k programs`.
"""

from __future__ import annotations

import colorsys
import decimal
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.differential.harness import Outcome, compile_text, run_cut, run_plain
from tests.differential.real import TRACE, run_dry, run_here
from tests.differential.state_kinds import BESIDE, HARMLESS, KINDS, program, state_programs

EXAMPLES = int(os.environ.get("KITARU_FUZZ_EXAMPLES", "15"))


def agree(source: str) -> Outcome:
    """Check that a program means the same cut and uncut; return what the cut one did."""
    compilation, path = compile_text(source, beside=BESIDE)
    plain = run_plain(compilation, path, {"n": 1})
    cut = run_cut(compilation, path, {"n": 1})
    assert cut.same() == plain.same(), source
    everywhere = run_cut(compilation, path, {"n": 1}, everywhere=True)
    assert everywhere.same() == plain.same(), source
    return cut


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["flow", "checkpoint"])
def test_each_kind_is_the_same_on_both_sides(kind: str, place: str) -> None:
    definition, use = KINDS[kind]
    inside = ["@checkpoint", f"def use(x): return {use}"]
    call = use if place == "flow" else "use(n)"
    body = [f"x = {call}", "a(1)", f"y = {call}", "b(2)", f"return [x, y, {call}]"]
    found = agree(program([definition, *inside], body))
    assert found.elided and "Error" not in found.result


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_keeps_no_state_costs_no_cut(kind: str) -> None:
    definition, use = HARMLESS[kind]
    inside = ["@checkpoint", f"def use(x): return {use}"]
    body = [f"x = {use}", "a(1)", f"y = {use}", "use(1)", "b(2)", f"return [x, y, {use}]"]
    found = agree(program([definition, *inside], body))
    assert (found.cuts, found.elided) == (2, 0), found


def test_what_only_one_side_uses_costs_no_cut() -> None:
    definition, use = KINDS["database"]
    found = agree(program([definition], ["a(1)", "b(2)", f"return [{use}, {use}]"]))
    assert found.elided == 0 and found.cuts


def test_what_a_variable_reaches_counts() -> None:
    definitions = [
        "import sqlite3\nDB = sqlite3.connect(':memory:')\nDB.execute('create table t (x)')",
        "class Store:\n    def put(self): return DB.execute('insert into t values (1)').lastrowid",
        "def make(): return Store()",
    ]
    body = ["s = make()", "a(1)", "x = s.put()", "b(2)", "return [x, s.put()]"]
    assert agree(program(definitions, body)).elided


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
@given(source=state_programs())
def test_programs_keep_their_state(source: str) -> None:
    agree(source)


# State that the processes of a real run do not share, and this process does.
OF_PROCESS = {
    "decimal context": (
        "import decimal\ndef wider():\n    decimal.getcontext().prec += 1\n"
        "    return str(decimal.Decimal(1) / 7)",
        "wider()",
    ),
    "library's module and class": (
        "import colorsys, json\ndef marked():\n"
        "    colorsys.marked = getattr(colorsys, 'marked', 0) + 1\n"
        "    json.JSONEncoder.marked = colorsys.marked + 1\n    return json.JSONEncoder.marked",
        "marked()",
    ),
    "late iterator": KINDS["late iterator"],
}


@pytest.mark.parametrize("kind", OF_PROCESS)
def test_a_document_keeps_the_state_of_its_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kept_late", raising=False)
    for holder in (colorsys, json.JSONEncoder):
        monkeypatch.setattr(holder, "marked", 0, raising=False)
    definition, use = OF_PROCESS[kind]
    body = [f"x = {use}", "a(1)", f"y = {use}", f"return [x, y, {use}]"]
    path = tmp_path / "kept_program.py"
    path.write_text(program([definition], body) + TRACE)
    (tmp_path / "kept_late.py").write_text(BESIDE["kept_late.py"])
    no_answers: dict[str, Any] = {}
    dry = run_dry(path, "main", {"n": 1}, no_answers.__getitem__, tmp_path, "kubeflow")
    with decimal.localcontext():
        here = run_here(path, "main", {"n": 1}, no_answers.__getitem__, tmp_path)
    assert dry.result == here.result and len({*map(str, here.result)}) > 1
