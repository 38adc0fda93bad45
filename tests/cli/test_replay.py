"""Replaying, cancelling and comparing from the command line."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from . import flows
from .conftest import Kitaru

LISTING = """\
from kitaru import checkpoint, flow


@checkpoint
def found() -> list[int]:
    return [1, 2, 3]


@flow
def listing() -> int:
    return len(found())
"""


def document(kitaru: Kitaru, *arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = kitaru("executions", *arguments, "--json", code=code).document
    return found


def ran(kitaru: Kitaru) -> list[str]:
    path = kitaru.folder / "ran.txt"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


@pytest.fixture
def source(kitaru: Kitaru) -> str:
    """Run the review to its end; return its id."""
    kitaru.write("review.py", flows.REVIEW)
    waiting = kitaru("run", "review.py", "-i", "topic=kayaks", "--json").document
    document(kitaru, "input", waiting["exec_id"], "--value", "true")
    ran(kitaru)
    return str(waiting["exec_id"])


def test_from_a_checkpoint_with_a_result_and_an_answer(kitaru: Kitaru, source: str) -> None:
    given = ["--set", "checkpoint.research=12", "--set", "wait.approve=true"]
    found = document(kitaru, "replay", source, "--from", "draft", *given)
    assert (found["status"], found["result"]) == ("completed", "draft of 12")
    assert found["replay"] == {
        "source": source,
        "start": "draft",
        "results": ["research", "approve"],
        "inputs": [],
        "models": {},
        "unchanged": False,
    }
    assert ran(kitaru) == ["draft"]
    shown = kitaru("executions", "get", found["exec_id"])
    assert shown.out.splitlines()[1] == "input    topic = kayaks"
    assert [line.split()[1:3] for line in shown.out.splitlines()[2:5]] == [
        ["research", "injected"],
        ["draft", shown.out.splitlines()[3].split()[2]],
        ["approve", "injected"],
    ]


def test_what_a_divergence_says_to_paste_works(kitaru: Kitaru, source: str) -> None:
    given = ["--set", "wait.approve=true", "-i", "topic=two owls"]
    failed = document(kitaru, "replay", source, "--from", "approve", *given, code=1)
    assert failed["error"]["type"] == "kitaru.errors.Diverged"
    pasted = shlex.split(failed["error"]["help"].splitlines()[1])
    assert pasted[:6] == ["kitaru", "executions", "replay", source, "--from", "research"]
    found = document(kitaru, *pasted[2:])
    assert (found["status"], found["replay"]["results"]) == ("completed", ["approve"])
    assert "two owls" in kitaru("artifacts", "get", found["exec_id"], "draft").out


def test_an_aborted_wait_is_answered_in_a_replay(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    waiting = kitaru("run", "review.py", "-i", "topic=x", "--json").document["exec_id"]
    assert document(kitaru, "input", waiting, "--abort")["status"] == "cancelled"
    given = ["--at", "failure", "--set", "wait.approve=true"]
    assert document(kitaru, "replay", waiting, *given)["result"] == "draft of brief on x"


def test_what_cannot_be_meant_is_refused(kitaru: Kitaru, source: str) -> None:
    kitaru.write("listing.py", LISTING)
    listing = kitaru("run", "listing.py", "--json").document["exec_id"]
    error = kitaru("executions", "replay", listing, "--set", "checkpoint.found=[1", code=2).err
    assert "'[1' is not JSON, and found returned a value of type list" in error
    pasted = shlex.split(error.splitlines()[1].partition("string: ")[2])
    assert document(kitaru, "replay", listing, *pasted)["result"] == 2
    where = kitaru("executions", "replay", "--where", "status=done", code=2)
    assert "One of queued, starting, running, interrupted, waiting" in where.err


def test_as_text_it_says_what_was_taken_over(kitaru: Kitaru, source: str) -> None:
    done = kitaru("executions", "replay", source, "--from", "approve")
    assert [line.split()[1:] for line in done.err.splitlines()] == [
        ["research", "from", source],
        ["draft", "from", source],
    ]
    assert done.out.splitlines()[0].startswith("waiting  review")
    assert done.out.splitlines()[1] == f"replay   of {source} from approve"
    assert ran(kitaru) == []


def test_another_input_runs_everything(kitaru: Kitaru, source: str) -> None:
    given = ["-i", "topic=12", "--set", "wait.approve=true"]
    assert document(kitaru, "replay", source, *given)["result"] == "draft of brief on 12"
    assert ran(kitaru) == ["research", "draft"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "nothing"], 'no invocation "nothing"'),
        (["--at", "failure"], "did not fail"),
        (["--set", "research=1"], "checkpoint.ID"),
        (["--set", "checkpoint.research"], "NAME=VALUE"),
        (["-i", "subject=x"], "'subject'"),
        (["--target", "vertex"], "it has no pipeline"),
    ],
)
def test_what_cannot_be_replayed_begins_nothing(
    arguments: list[str], said: str, kitaru: Kitaru, source: str
) -> None:
    error = kitaru("executions", "replay", source, *arguments, "--json", code=2).error
    assert said in error["message"]
    assert document(kitaru, "list")["count"] == 1


def test_at_the_failure(kitaru: Kitaru) -> None:
    kitaru.write("failing.py", flows.FAILING)
    failed = kitaru("run", "failing.py", "--json", code=1).document
    given = ["--at", "failure", "--set", "checkpoint.second=9"]
    assert document(kitaru, "replay", failed["exec_id"], *given)["result"] == 9


def test_cancel(kitaru: Kitaru, source: str) -> None:
    waiting = kitaru("run", "review.py", "-i", "topic=x", "--json").document["exec_id"]
    for _ in range(2):
        found = document(kitaru, "cancel", waiting)
        assert (found["status"], found["waits"]) == ("cancelled", [])
    error = kitaru("executions", "cancel", source, "--json", code=2).error
    assert "is completed" in error["message"]
    assert kitaru("executions", "cancel", waiting).out.startswith("cancelled")


def test_a_dry_run_is_replayed_as_one_and_its_rest_is_written(kitaru: Kitaru) -> None:
    marks = kitaru.folder / "ran.txt"
    kitaru.write("review.py", flows.REVIEW.replace('"ran.txt"', repr(str(marks))))
    command = ["dry-run", "review.py", "-t", "vertex", "-i", "topic=kayaks", "--json"]
    source = kitaru(*command).document["exec_id"]
    ran(kitaru)
    found = document(kitaru, "replay", source, "--from", "draft", "--set", "wait.approve=true")
    assert (found["status"], found["result"]) == ("completed", "draft of brief on kayaks")
    assert ran(kitaru) == ["draft"]
    found = document(kitaru, "replay", source, "-i", "topic=owls", "--set", "wait.approve=true")
    assert found["result"] == "draft of brief on owls"
    document(kitaru, "input", source, "--value", "true")
    again = document(kitaru, "replay", source, "--from", "approve", "-t", "vertex", "-o", "rest")
    assert again["steps"] == ["approve"]
    assert (kitaru.folder / again["directory"] / "pipeline.yaml").is_file()
    assert document(kitaru, "get", again["exec_id"])["status"] == "running"
    rest = document(kitaru, "resume", again["exec_id"], "-t", "kubeflow", "-o", "rest")
    assert rest["steps"] == ["approve"] and rest["target"] == "kubeflow"


def test_two_executions_side_by_side(kitaru: Kitaru, source: str) -> None:
    given = ["--from", "draft", "--set", "wait.approve=false"]
    other = document(kitaru, "replay", source, *given)["exec_id"]
    found = document(kitaru, "diff", source, other, code=1)
    assert not found["same"]
    assert [(row["id"], row["change"]) for row in found["rows"]] == [
        ("research", "same"),
        ("draft", "same"),
        ("approve", "changed"),
    ]
    assert found["a"]["inputs"] == {"topic": "kayaks"}
    assert document(kitaru, "diff", source, source)["same"]
    lines = kitaru("executions", "diff", source, other, code=1).out.splitlines()
    shown = {tuple(line.split()[:2]) for line in lines}
    assert {("=", "research"), ("~", "approve"), ("~", "result")} <= shown
    assert lines[-1] == "different"


def test_lineage(kitaru: Kitaru, source: str) -> None:
    found = document(kitaru, "lineage", source)
    assert found["items"] == [
        {"id": "research", "parents": []},
        {"id": "draft", "parents": ["research"]},
        {"id": "approve", "parents": []},
    ]
    assert document(kitaru, "lineage", source, "research")["count"] == 2
    lines = kitaru("executions", "lineage", source, "draft").out.splitlines()
    assert lines == ["research", "draft     from research"]
    error = kitaru("executions", "lineage", source, "x", "--json", code=2).error
    assert "research, draft, approve" in error["help"]


def test_a_cohort(kitaru: Kitaru, source: str) -> None:
    kitaru.write("failing.py", flows.FAILING)
    failed = kitaru("run", "failing.py", "--json", code=1).document["exec_id"]
    given = ["--set", "wait.approve=false"]
    would = document(kitaru, "replay", "--where", "flow=review", *given)
    assert (would["would"], would["items"][0]["exec_id"]) == ("replay", source)
    assert document(kitaru, "list")["count"] == 2, "nothing was replayed"
    found = document(kitaru, "replay", "--where", "flow=review", "--yes", *given)
    (item,) = found["items"]
    assert (found["count"], found["same"]) == (1, 0)
    assert (item["source"], item["a"]["status"], item["b"]["status"]) == (
        source,
        "completed",
        "completed",
    )
    assert (item["a"]["result"], item["b"]["result"]) == ("draft of brief on kayaks", "Rejected")
    again = document(kitaru, "replay", "--where", "flow=review", "--limit", "9", "--yes", *given)
    assert [item["source"] for item in again["items"]] == [source], "replays are left out"
    kitaru.write("fixed", "")
    fixed = ["replay", "--where", "status=failed", "--at", "failure", "--yes"]
    table = kitaru("executions", *fixed).out.splitlines()
    assert table[1].split()[0] == failed and "failed → completed" in table[1]
    assert table[-1].startswith("1 execution, 0 with the same result")
    unknown = document(kitaru, "replay", "--where", "flow=review", "--from", "x", "--yes", code=1)
    assert unknown["items"][0]["replay"] is None and "x" in unknown["items"][0]["error"]
    for wrong in (["--where", "name=x"], [source, "--where", "flow=x"], []):
        kitaru("executions", "replay", *wrong, code=2)
