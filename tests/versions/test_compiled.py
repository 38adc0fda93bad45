"""Steps of new code on an execution that steps of other code began."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.wire.records import WaitAnswer
from tests.step.build import Program, end_zygote
from tests.step.programs import REVIEW_SOURCE, REVIEW_STEPS, review
from tests.step.test_review import result


@pytest.fixture(scope="module", autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    end_zygote()


def rebuilt(folder: Path, *edits: tuple[str, str], declared: str = "") -> Program:
    """Run the review flow to its wait, answer it, and compile its edited code in its place."""
    program = review(folder)
    assert program.walk() == ["research:go", "draft:waiting"]
    program.journal().answer(WaitAnswer("approve", "value", True))
    program.source, program.steps_py = REVIEW_SOURCE, REVIEW_STEPS
    for old, new in edits:
        program.source = program.source.replace(old, new)
        program.steps_py = program.steps_py.replace(f"= {old}", f"= {new}")
    program.source += declared
    program.line += 1
    program.__post_init__()
    return program


WRITE = (("def draft(", "def write("), ("draft(brief)", "write(brief)"))


def test_the_same_code_replays_the_records(tmp_path: Path) -> None:
    program = rebuilt(tmp_path)
    assert program.walk() == ["research:go", "draft:go", "publish:end"]
    assert program.calls() == ["research", "draft", "publish"]


def test_a_renamed_checkpoint_does_not_run_again(tmp_path: Path) -> None:
    program = rebuilt(tmp_path, *WRITE)
    program.run("research")
    ran = program.run("draft")
    assert ran.code == 1
    assert 'called checkpoint "draft" here, and its code now calls checkpoint "write"' in ran.log
    assert 'kitaru.renamed("draft", checkpoint="write")' in ran.log
    assert program.calls() == ["research", "draft"]


def test_a_declared_rename_finds_the_record(tmp_path: Path) -> None:
    program = rebuilt(tmp_path, *WRITE, declared='\nkitaru.renamed("draft", checkpoint="write")\n')
    assert program.walk() == ["research:go", "draft:go", "publish:end"]
    assert program.calls() == ["research", "draft", "publish"]
    assert result(program) == "DRAFT OF KAYAKS"


def test_a_renamed_wait_stops_and_its_answer_is_not_lost(tmp_path: Path) -> None:
    sign = (('kitaru.wait(name="approve"', 'kitaru.wait(name="sign_off"'),)
    program = rebuilt(tmp_path, *sign)
    program.run("research")
    assert 'the execution asked wait "approve" here' in program.run("draft").log
    program.source += '\nkitaru.renamed("approve", wait="sign_off")\n'
    program.__post_init__()
    assert program.walk() == ["research:go", "draft:go", "publish:end"]
    assert program.calls() == ["research", "draft", "publish"]
