"""What an orchestrator that asks natively needs of a step: question, answer, a word of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.wire.ids import check_execution_id, execution_id_of
from kitaru.wire.records import WaitAnswer
from tests.step.build import Program, step
from tests.step.programs import review
from tests.step.test_review import result


def asking(folder: Path) -> Program:
    """The review flow, with a step that continues after the answer."""
    program = review(folder)
    program.steps = (*program.steps[:2], step("answered", "wait_approve"), *program.steps[2:])
    program.__post_init__()
    return program


def run(program: Program, name: str, *options: str) -> tuple[int, dict[str, Any], str]:
    process = program.start(name, options=["--outcome-file", "out/outcome", *options])
    log = process.communicate(timeout=240)[1]
    outcome = program.folder / "out" / "outcome"
    return process.returncode, json.loads(outcome.read_text()), log


def answer(value: Any) -> tuple[str, str]:
    return "--answer", json.dumps({"name": "approve", "value": value})


def asked(program: Program) -> None:
    run(program, "research")
    question = {"name": "approve", "question": "Approve draft of kayaks?"}
    code, outcome, _ = run(program, "draft")
    assert outcome == {
        "next": "answered",
        "status": "waiting",
        "wait": {**question, "schema": {"type": "boolean"}, "kind": "question", "step": "answered"},
        "execution": outcome["execution"],
    }
    assert code == 0


def test_a_step_says_what_it_waits_for_and_another_one_takes_the_answer(tmp_path: Path) -> None:
    program = asking(tmp_path)
    asked(program)
    assert run(program, "answered", *answer(True))[1] == {"next": "publish", "status": "go"}
    assert run(program, "publish")[1] == {"next": "end", "status": "end"}
    assert result(program) == "DRAFT OF KAYAKS"
    assert program.calls() == ["research", "draft", "publish"]


def test_an_answer_that_was_first_counts(tmp_path: Path) -> None:
    program = asking(tmp_path)
    asked(program)
    program.journal().answer(WaitAnswer("approve", "value", False))
    code, outcome, log = run(program, "answered", *answer(True))
    assert (code, outcome) == (0, {"next": "end", "status": "end"})
    assert "answered with false already" in log
    assert result(program) == "rejected"


def test_an_answer_that_does_not_fit_leaves_the_question_open(tmp_path: Path) -> None:
    program = asking(tmp_path)
    asked(program)
    code, _, log = run(program, "answered", *answer("perhaps"))
    assert code == 2 and '"approve" does not fit' in log
    assert program.journal().state().status == "waiting"
    assert run(program, "answered", *answer(True))[1]["status"] == "go"


def test_an_answer_before_the_question_leaves_nothing_to_the_step_that_takes_it(
    tmp_path: Path,
) -> None:
    program = asking(tmp_path)
    run(program, "research")
    program.journal().answer(WaitAnswer("approve", "value", True))
    assert run(program, "draft")[1] == {"next": "publish", "status": "go"}
    skipped = run(program, "answered", "--skip-code", "99")[:2]
    assert skipped == (99, {"next": "end", "status": "skip"})


def test_what_has_nothing_to_do_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    program = asking(tmp_path)
    asked(program)
    assert run(program, "publish", "--skip-code", "99")[0] == 99
    assert run(program, "answered", *answer(False))[1]["status"] == "end"
    again = run(program, "answered", "--skip-code", "99")[:2]
    assert again == (0, {"next": "end", "status": "end"}), "it had a part in the execution"
    assert run(program, "publish", "--skip-code", "99")[0] == 99


def test_an_execution_knows_where_it_runs(tmp_path: Path) -> None:
    program = review(tmp_path)
    run_id = "review/manual__2026-11-22T06:00:00+00:00"
    program.start("research", exec_id=run_id, options=["--target", "airflow"]).communicate()
    record = program.journal(execution_id_of(run_id)).execution
    assert (record.target, record.run) == ("airflow", run_id)


@pytest.mark.parametrize(
    ("run", "starts"),
    [
        ("0f3a-77", "0f3a-77"),
        ("review/manual__2026-11-22T06:00", "review-manual-2026-11-22t06-00-"),
        ("Größe", "gr-e-"),
        ("///", ""),
    ],
)
def test_an_execution_is_called_like_its_run(run: str, starts: str) -> None:
    assert execution_id_of(run).startswith(starts)


@given(st.lists(st.text(max_size=120), unique=True, min_size=2, max_size=20))
def test_every_run_has_an_execution_id_of_its_own(runs: list[str]) -> None:
    ids = [check_execution_id(execution_id_of(run)) for run in runs]
    assert len(set(ids)) == len(ids)
