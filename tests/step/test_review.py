"""A compiled flow goes from step to step, waits, resumes, and survives being killed anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from kitaru.runtime import codec
from kitaru.wire.records import WaitAnswer
from tests.step.build import Program
from tests.step.programs import review
from tests.waiting import attempts


def answer(program: Program, value: bool, exec_id: str = "e1") -> None:
    program.journal(exec_id).answer(WaitAnswer("approve", "value", value))


def result(program: Program, exec_id: str = "e1") -> object:
    journal = program.journal(exec_id)
    end = journal.end()
    assert end is not None and end.result is not None
    return codec.decode(journal.fetch(end.result))


def test_the_run_waits_and_the_answer_resumes_it(tmp_path: Path) -> None:
    program = review(tmp_path)
    assert program.walk() == ["research:go", "draft:waiting"]
    assert program.journal().state().status == "waiting"
    assert [wait.question for wait in program.journal().pending_waits()] == [
        "Approve draft of kayaks?"
    ]
    answer(program, True)
    assert program.walk() == ["research:go", "draft:go", "publish:end"]
    assert result(program) == "DRAFT OF KAYAKS"
    assert program.calls() == ["research", "draft", "publish"]


def test_steps_behind_a_wait_find_no_work(tmp_path: Path) -> None:
    program = review(tmp_path)
    program.walk()
    ran = program.run("publish")
    assert (ran.code, ran.next, ran.status) == (0, "end", "skip")
    assert program.calls() == ["research", "draft"]


def test_an_early_return_ends_the_execution(tmp_path: Path) -> None:
    program = review(tmp_path)
    program.walk()
    answer(program, False)
    assert program.walk() == ["research:go", "draft:end", "publish:skip"]
    assert result(program) == "rejected"
    assert program.calls() == ["research", "draft"]


def test_an_answer_before_the_question_is_found(tmp_path: Path) -> None:
    program = review(tmp_path)
    program.run("research")
    answer(program, True)
    assert program.run("draft").next == "publish"


def test_an_aborted_wait_cancels_the_execution(tmp_path: Path) -> None:
    program = review(tmp_path)
    program.walk()
    program.journal().answer(WaitAnswer("approve", "abort"))
    assert program.walk() == ["research:go", "draft:end", "publish:skip"]
    assert program.journal().state().status == "cancelled"
    assert "publish" not in program.calls()


def test_a_step_that_is_run_again_runs_no_code_of_the_flow(tmp_path: Path) -> None:
    program = review(tmp_path)
    program.walk()
    (tmp_path / "project.py").write_text("raise SystemExit('the module was imported')\n")
    ran = program.run("draft")
    assert (ran.code, ran.status) == (0, "waiting"), "its round is parked, and has no answer"
    answer(program, True)
    review(tmp_path)
    assert program.run("draft").status == "go"
    (tmp_path / "project.py").write_text("raise SystemExit('the module was imported')\n")
    again = program.run("draft")
    assert (again.code, again.next, again.status) == (0, "publish", "go")


def test_killed_before_every_store_operation(tmp_path: Path) -> None:
    """Every step is killed before its operation n = 1, 2, …, each time from the same store. When it
    runs again, it continues normally, and no recorded checkpoint runs again."""
    program = review(tmp_path / "0")
    for name, status in (
        ("research", "go"),
        ("draft", "waiting"),
        ("draft", "go"),
        ("publish", "end"),
    ):
        if status == "go" and name == "draft":
            answer(program, True)
        for number in attempts():
            folder = tmp_path / f"{name}-{status}-{number}"
            shutil.copytree(program.folder, folder)
            copy = review(folder)
            killed = copy.run(name, kill=f"before:{number}").code == -9
            before = [r.id for r in copy.journal().invocations()] if copy.has_begun() else []
            called = copy.calls()
            again = copy.run(name)
            assert (again.code, again.status) == (0, status), again.log
            assert not set(copy.calls()[len(called) :]) & set(before)
            if not killed:
                break
        assert number > 5
        program = copy
    assert result(program) == "DRAFT OF KAYAKS"
    ids = [record.id for record in program.journal().invocations()]
    assert ids == ["research", "draft", "approve", "publish"]


def test_two_processes_run_one_step_at_once(tmp_path: Path) -> None:
    program = review(tmp_path)
    for name in ("research", "draft"):
        processes = [program.start(name) for _ in range(3)]
        logs = [process.communicate(timeout=240)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], logs
    answer(program, True)
    assert program.walk() == ["research:go", "draft:go", "publish:end"]
    assert result(program) == "DRAFT OF KAYAKS"


def test_the_same_run_with_other_inputs_is_refused(tmp_path: Path) -> None:
    program = review(tmp_path)
    program.run("research")
    ran = program.run("research", topic="canoes")
    assert ran.code == 2
    assert "with another inputs" in ran.log or "other inputs" in ran.log


def test_a_missing_store_object_is_not_the_end(tmp_path: Path) -> None:
    program = review(tmp_path)
    ran = program.run("draft")
    assert ran.code == 2
    assert "no execution e1" in ran.log
    assert "Traceback" not in ran.log


def test_a_step_imports_little(tmp_path: Path) -> None:
    heavy = ["pydantic", "click", "rich", "networkx", "jinja2", "asyncio", "litellm"]
    heavy += ["dataclasses", "inspect"]
    code = (
        "import sys, kitaru.runtime.__main__, kitaru, kitaru.stores.sqlite\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_another_plan_starts_from_the_journal(tmp_path: Path) -> None:
    """After a recompilation the old frames are not read; recorded checkpoints still do not run."""
    program = review(tmp_path)
    program.walk()
    other = review(tmp_path, line=2)
    answer(other, True)
    assert other.walk() == ["research:go", "draft:go", "publish:end"]
    assert other.calls() == ["research", "draft", "publish"]
