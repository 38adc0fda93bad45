"""Dry runs from the command line: the same results and the same JSON as a local run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from tests.waiting import wait_for_file

from . import flows
from .conftest import Kitaru
from .test_run import KEYS

REVIEW = ("dry-run", "review.py", "--target", "vertex", "-i", "topic=kayaks")


@pytest.fixture
def review(kitaru: Kitaru) -> Kitaru:
    # Steps run elsewhere, so that this file shows what ran.
    ran = kitaru.folder / "ran.txt"
    kitaru.write("review.py", flows.REVIEW.replace('"ran.txt"', repr(str(ran))))
    return kitaru


@pytest.mark.parametrize("target", ["airflow", "kubeflow", "vertex"])
def test_answers_given_at_once(target: str, review: Kitaru) -> None:
    command = ["dry-run", "review.py", "--target", target, "-i", "topic=12"]
    document = review(*command, "--answer", "approve=true", "--json").document
    assert set(document) == KEYS
    assert (document["status"], document["result"]) == ("completed", "draft of brief on 12")
    assert (review.folder / ".kitaru/dry-run/review" / target / "lock.json").is_file()
    assert not (review.folder / "build").exists()


def test_a_wait_is_answered_afterwards_in_one_command(review: Kitaru) -> None:
    document = review(*REVIEW, "--json").document
    assert document["status"] == "waiting"
    assert document["waits"][0]["schema"] == {"type": "boolean"}
    exec_id = document["exec_id"]
    assert review("executions", "resume", exec_id, "--json").document["status"] == "waiting"
    done = review("executions", "input", exec_id, "--value", "true", "--json").document
    assert (done["status"], done["result"]) == ("completed", "draft of brief on kayaks")
    assert (review.folder / "ran.txt").read_text().split() == ["research", "draft"]
    again = review("executions", "resume", exec_id, "--json").document
    assert again == done


def test_text_output(review: Kitaru) -> None:
    waiting = review(*REVIEW)
    assert [line.split()[1:] for line in waiting.err.splitlines()] == [
        ["research"],
        ["draft", "waiting"],
    ]
    assert waiting.out.splitlines()[1] == "wait     approve: Approve draft? [y/n]"
    answer = waiting.out.splitlines()[2].removeprefix("answer   kitaru ").split()
    assert review(*answer).out == "draft of brief on kayaks\n"


def test_answers_are_read_as_the_wait_wants_them(kitaru: Kitaru) -> None:
    kitaru.write("form.py", flows.FORM)
    command = ["dry-run", "form.py", "--target", "kubeflow", "--json"]
    document = kitaru(*command, "--answer", "who=42", "--answer", "count=42").document
    assert document["result"] == {"greeting": "hello", "who": "42", "count": 42}


def test_an_answer_that_fits_nothing(review: Kitaru) -> None:
    error = review(*REVIEW, "--answer", "other=true", "--json", code=2).error
    assert "approve" in error["message"]
    store = ["--store", "sqlite:elsewhere.db"]
    error = review(*REVIEW, *store, "--answer", "approve=perhaps", "--json", code=2).error
    assert error["type"] == "AnswerInvalid"
    answer = error["help"].splitlines()[-1].removeprefix("kitaru ").split()
    assert review(*answer).out == "draft of brief on kayaks\n"


def test_a_failure_and_its_retry(kitaru: Kitaru) -> None:
    fixed = kitaru.folder / "fixed"
    kitaru.write("failing.py", flows.FAILING.replace('"fixed"', repr(str(fixed))))
    document = kitaru("dry-run", "failing.py", "-t", "vertex", "--json", code=1).document
    assert (document["status"], document["error"]["type"]) == ("failed", "ValueError")
    assert "line 15, in second" in document["error"]["traceback"]
    fixed.touch()
    document = kitaru("executions", "retry", document["exec_id"], "--json").document
    assert (document["status"], document["result"]) == ("completed", 2)
    error = kitaru("executions", "retry", document["exec_id"], "--json", code=2).error
    assert error["type"] == "StateError"


def test_an_abort(review: Kitaru) -> None:
    exec_id = review(*REVIEW, "--json").document["exec_id"]
    document = review("executions", "input", exec_id, "--abort", "--json").document
    assert document["status"] == "cancelled"
    assert review("executions", "resume", exec_id, "--json", code=2).error


def test_a_build_that_is_gone(review: Kitaru) -> None:
    exec_id = review(*REVIEW, "--json").document["exec_id"]
    shutil.rmtree(review.folder / ".kitaru/dry-run")
    error = review("executions", "input", exec_id, "--value", "true", "--json", code=2).error
    assert ".kitaru/dry-run/review/vertex" in error["message"] and "kitaru compile" in error["help"]
    again = ["compile", "review.py", "--target", "vertex", "-o", ".kitaru/dry-run"]
    review(*again, "--store", "sqlite:.kitaru/kitaru.db")
    assert review("executions", "resume", exec_id, "--json").document["status"] == "completed"


@pytest.mark.parametrize("arguments", [[], ["-i", "topic=x", "-i", "other=1"]])
def test_bad_inputs(arguments: list[str], review: Kitaru) -> None:
    error = review("dry-run", "review.py", "-t", "vertex", *arguments, "--json", code=2).error
    assert error["type"] == "InputError"
    assert review("executions", "list", "--json").document["count"] == 0


def test_ctrl_c_leaves_an_execution_that_can_be_resumed(kitaru: Kitaru) -> None:
    folder = kitaru.folder
    source = flows.SLOW.replace('"slow-began"', repr(str(folder / "slow-began")))
    kitaru.write("slow.py", source.replace('"go"', repr(str(folder / "go"))))
    process = subprocess.Popen(
        kitaru.command(["dry-run", "slow.py", "-t", "vertex"]), cwd=folder, env=kitaru.environ,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_for_file(folder / "slow-began")
    # As ctrl-C does: to the command and to the step it runs.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    exec_id = kitaru("executions", "list", "--json").document["items"][0]["exec_id"]
    assert err.endswith(f"help: kitaru executions resume {exec_id}\n")
    (folder / "go").touch()
    document = kitaru("executions", "resume", exec_id, "--json").document
    assert document["result"] == "quick slow"


LARGE = """\
from kitaru import checkpoint, flow

@checkpoint
def show(n: int) -> str:
    return str(n)

@flow
def main(n: int = {default}) -> str:
    return show(n)
"""


@pytest.mark.parametrize("default", [2**53 + 1, 1])
def test_a_large_integer_arrives_whatever_a_parameter_holds(kitaru: Kitaru, default: int) -> None:
    kitaru.write("large.py", LARGE.format(default=default))
    given = ("--target", "vertex", "-i", f"n={2**53 + 3}", "--json")
    assert kitaru("dry-run", "large.py", *given).document["result"] == str(2**53 + 3)
