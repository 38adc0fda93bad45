"""Running, answering, resuming and retrying from the command line, and the JSON of each."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from kitaru.runtime.engine.waits import answer
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from tests.waiting import wait_for_file

from . import flows
from .conftest import Kitaru

KEYS = {
    "exec_id", "flow", "deployment", "status", "result", "waits", "error", "invocations",
    "attempts", "effort", "replay", "notes", "started_at", "last_sign", "inputs", "submission",
    "attempts_total", "counts", "next", "total", "answers", "under_way", "silent_since",
    "own", "failed_attempts", "unpriced",
    "calls", "codes", "unasked",
    "children", "parent", "waits_for",
    "progress", "signals", "tags", "timers", "events", "started_by", "cancelled_by",
}  # fmt: skip


def started(kitaru: Kitaru, *more: str) -> dict[str, Any]:
    """Start the review; it waits."""
    kitaru.write("review.py", flows.REVIEW)
    document: dict[str, Any] = kitaru(
        "run", "review.py", "-i", "topic=kayaks", "--json", *more
    ).document
    return document


def ran(kitaru: Kitaru) -> list[str]:
    return (kitaru.folder / "ran.txt").read_text().split()


def test_a_run_without_a_terminal_ends_waiting(kitaru: Kitaru) -> None:
    document = started(kitaru)
    assert set(document) == KEYS
    assert document["status"] == "waiting"
    assert (document["flow"], document["result"], document["error"]) == ("review", None, None)
    (wait,) = document["waits"]
    assert (wait["name"], wait["question"]) == ("approve", "Approve draft?")
    assert (wait["schema"], wait["metadata"]) == ({"type": "boolean"}, {})


@pytest.mark.parametrize(
    ("answer", "result"), [("true", "draft of brief on kayaks"), ("false", "Rejected")]
)
def test_an_answer_goes_on_without_running_anything_again(
    answer: str, result: str, kitaru: Kitaru
) -> None:
    exec_id = started(kitaru)["exec_id"]
    document = kitaru("executions", "input", exec_id, "--value", answer, "--json").document
    assert set(document) == KEYS
    assert (document["exec_id"], document["status"]) == (exec_id, "completed")
    assert (document["result"], document["waits"]) == (result, [])
    assert ran(kitaru) == ["research", "draft"]
    assert kitaru("executions", "get", exec_id, "--json").document == document


def test_what_an_answer_lets_run_is_shown_however_quick_it_is(kitaru: Kitaru) -> None:
    kitaru.write("form.py", flows.FORM)
    exec_id = kitaru("run", "form.py", "--json").document["exec_id"]
    for name, value in {"who": "Ann", "count": "3"}.items():
        answered = kitaru("executions", "input", exec_id, "--value", value)
        assert answered.err.split()[:3] == ["✓", name, "answered"]


def test_a_file_that_moved_is_found_in_the_folder_of_the_command(kitaru: Kitaru) -> None:
    kitaru.write("old/flows/review.py", flows.REVIEW)
    waiting = kitaru("run", "old/flows/review.py", "-i", "topic=x", "--json").document
    answer = ["executions", "input", waiting["exec_id"], "--value", "true", "--json"]
    (kitaru.folder / "old").rename(kitaru.folder / "new")
    error = kitaru(*answer, code=2).error
    assert "old/flows/review.py" in error["message"] and "folder" in error["help"]
    (kitaru.folder / "new" / "flows").rename(kitaru.folder / "flows")
    # Longer ends of the path go first.
    kitaru.write("review.py", "raise AssertionError")
    assert kitaru(*answer).document["result"] == "draft of brief on x"


def test_text_output_leads_from_one_command_to_the_next(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    waiting = kitaru("run", "review.py", "-i", "topic=kayaks")
    assert [line.split()[1] for line in waiting.err.splitlines()] == ["research", "draft"]
    head, wait, answer = waiting.out.splitlines()
    assert head.split()[:2] == ["waiting", "review"]
    assert wait == "wait     approve: Approve draft? [y/n]"
    command = answer.removeprefix("answer   kitaru ").split()
    done = kitaru(*command)
    assert done.out == "draft of brief on kayaks\n"
    assert done.err.splitlines()[-1].split() == ["completed", "review", head.split()[2]]


def test_the_command_to_paste_names_a_store_that_was_named(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    out = kitaru("run", "review.py", "-i", "topic=x", "--store", "sqlite:else where/k.db").out
    assert out.splitlines()[-1].endswith(" --store 'sqlite:else where/k.db'")
    assert (kitaru.folder / "else where" / "k.db").exists()


def test_the_store_is_configured_in_this_order(kitaru: Kitaru) -> None:
    kitaru.write("pyproject.toml", '[tool.kitaru]\nstore = "sqlite:project/"\n')
    kitaru.write("failing.py", flows.FAILING)
    kitaru.write("fixed", "")
    kitaru("run", "failing.py")
    assert (kitaru.folder / "project" / "kitaru.db").exists()
    kitaru("run", "failing.py", KITARU_STORE="sqlite:variable/")
    assert (kitaru.folder / "variable" / "kitaru.db").exists()
    kitaru("run", "failing.py", "--store", "sqlite:argument/", KITARU_STORE="sqlite:variable/")
    assert (kitaru.folder / "argument" / "kitaru.db").exists()


def test_an_answer_of_the_wrong_type_leaves_it_waiting(kitaru: Kitaru) -> None:
    exec_id = started(kitaru)["exec_id"]
    error = kitaru("executions", "input", exec_id, "--value", "perhaps", "--json", code=2).error
    assert error["type"] == "AnswerInvalid"
    assert "boolean" in error["message"] + error["help"]
    assert kitaru("executions", "get", exec_id, "--json").document["status"] == "waiting"


def test_an_answer_that_only_the_flow_can_refuse_leaves_it_waiting(kitaru: Kitaru) -> None:
    kitaru.write("even.py", flows.EVEN)
    exec_id = kitaru("run", "even.py", "--no-input", "--json").document["exec_id"]
    given = ("executions", "input", exec_id, "--value")
    refused = kitaru(*given, '{"number": 1}', "--json", code=2)
    (wait,) = refused.document["waits"]
    assert "Value error, odd" in wait["refused"] and wait["metadata"] == {"of": "pairs"}
    *_, about, said, answer = kitaru("executions", "get", exec_id).out.splitlines()
    assert (about, said) == ('about    {"of": "pairs"}', f"refused  {wait['refused']}")
    assert answer.endswith("""--value '{"number": 0}'""")
    assert kitaru(*given, '{"number": 2}').out == "2\n"


def test_notes_are_shown(kitaru: Kitaru) -> None:
    kitaru.write("noting.py", flows.NOTING)
    exec_id = kitaru("run", "noting.py", "--json").document["exec_id"]
    lines = kitaru("executions", "get", exec_id).out.splitlines()
    assert [line for line in lines if line.startswith("notes")] == [
        'notes    {"stage": "end"}',
        'notes    count: {"rows": 2}',
    ]


def test_an_answer_twice(kitaru: Kitaru) -> None:
    exec_id = started(kitaru)["exec_id"]
    kitaru("executions", "input", exec_id, "--value", "true")
    kitaru("executions", "input", exec_id, "--value", "true")
    error = kitaru("executions", "input", exec_id, "--value", "false", "--json", code=2).error
    assert error["type"] == "WaitConflict"
    assert "true" in error["message"]


def test_an_answer_to_nothing(kitaru: Kitaru) -> None:
    exec_id = started(kitaru)["exec_id"]
    given = ("--value", "true", "--json")
    assert kitaru("executions", "input", exec_id, "--wait", "other", *given, code=2).error
    assert kitaru("executions", "input", "nope", *given, code=2).error["type"] == "NotFound"
    error = kitaru("executions", "input", exec_id, "--json", code=2).error
    assert error["type"] == "UsageError"
    assert error["help"] == f"kitaru executions input {exec_id} --wait approve --value true"
    assert kitaru("executions", "input", exec_id, "--abort", *given, code=2).error


def test_an_abort_cancels(kitaru: Kitaru) -> None:
    exec_id = started(kitaru)["exec_id"]
    document = kitaru("executions", "input", exec_id, "--abort", "--json").document
    assert (document["status"], document["waits"]) == ("cancelled", [])
    assert kitaru("executions", "resume", exec_id, "--json", code=2).error["type"] == "StateError"
    assert "\ncancelled" in kitaru("executions", "get", exec_id).out


def test_text_answers_are_text_where_text_is_wanted(kitaru: Kitaru) -> None:
    kitaru.write("form.py", flows.FORM)
    document = kitaru("run", "form.py", "-i", "greeting=12", "--json").document
    exec_id = document["exec_id"]
    assert [wait["name"] for wait in document["waits"]] == ["who"]
    document = kitaru("executions", "input", exec_id, "--value", "42", "--json").document
    assert [wait["name"] for wait in document["waits"]] == ["count"]
    document = kitaru("executions", "input", exec_id, "--value", "42", "--json").document
    assert document["result"] == {"greeting": "12", "who": "42", "count": 42}


def test_a_failure_shows_the_users_lines_and_is_retried(kitaru: Kitaru) -> None:
    path = kitaru.write("failing.py", flows.FAILING)
    failed = kitaru("run", "failing.py", code=1)
    assert f'File "{path}", line 15, in second' in failed.err
    assert "kitaru/" not in failed.err.replace(str(path), "")
    assert "error    in second: ValueError: bad 1" in failed.out
    retry = next(line for line in failed.out.splitlines() if "executions retry" in line)
    exec_id = retry.split()[-1]
    document = kitaru("executions", "retry", exec_id, "--json", code=1).document
    assert set(document) == KEYS
    assert (document["status"], document["error"]["type"]) == ("failed", "ValueError")
    kitaru.write("fixed", "")
    document = kitaru("executions", "retry", exec_id, "--json").document
    assert (document["exec_id"], document["result"]) == (exec_id, 2)
    assert kitaru("executions", "retry", exec_id, "--json", code=2).error["type"] == "StateError"


def test_stdout_carries_the_document_whatever_the_flow_prints(kitaru: Kitaru) -> None:
    kitaru.write("failing.py", flows.FAILING)
    kitaru.write("fixed", "")
    done = kitaru("run", "failing.py", "--json", "--no-cache")
    assert done.document["result"] == 2
    assert "a print of the user's" in done.err


def test_the_list_is_newest_first(kitaru: Kitaru) -> None:
    assert kitaru("executions", "list", "--json").document["items"] == []
    nowhere = f"no executions in sqlite:{kitaru.folder}/.kitaru/kitaru.db\n"
    assert kitaru("executions", "list").out == nowhere
    ids = [started(kitaru)["exec_id"] for _ in range(3)]
    kitaru("executions", "input", ids[1], "--value", "true")
    document = kitaru("executions", "list", "--json").document
    assert [item["exec_id"] for item in document["items"]] == ids[::-1]
    assert document["count"] == 3
    waiting = kitaru("executions", "list", "--status", "waiting", "--json").document["items"]
    assert [item["exec_id"] for item in waiting] == [ids[2], ids[0]]
    assert kitaru("executions", "list", "--flow", "x", "--json").document["count"] == 0
    assert kitaru("executions", "list", "--limit", "1", "--json").document["count"] == 1
    rows = [line.split()[:3] for line in kitaru("executions", "list").out.splitlines()]
    assert rows == [[i["status"], i["exec_id"], "review"] for i in document["items"]]
    # A process was killed after it recorded its answer.
    store = open_store(f"sqlite:{kitaru.folder}/.kitaru/kitaru.db")
    journal = Journal.open(store, ids[2])
    answer(journal, journal.pending_waits()[0], True)
    store.close()
    shown = kitaru("executions", "list")
    assert shown.out.split()[:2] == ["answered", ids[2]]
    assert f"kitaru executions resume {ids[2]}" in shown.err
    assert kitaru("executions", "get", ids[2], "--json").document["status"] == "answered"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "subject=x"], "'subject'"),
        ([], "topic"),
        (["--inputs", '{"topic": [1]}'], "topic"),
        (["--inputs", "[]"], "object"),
        (["-i", "topic"], "NAME=VALUE"),
    ],
)
def test_bad_inputs_start_nothing(arguments: list[str], message: str, kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    error = kitaru("run", "review.py", *arguments, "--json", code=2).error
    assert message in error["message"]
    assert kitaru("executions", "list", "--json").document["count"] == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def broken(:\n", "KIT101"),
        ("x = 1\n", "KIT103"),
        (flows.FORM + flows.FAILING, "KIT105"),
    ],
)
def test_bad_source_is_a_finding(text: str, code: str, kitaru: Kitaru) -> None:
    kitaru.write("flow.py", text)
    for command in (["run"], ["compile", "--target", "vertex"]):
        error = kitaru(*command, "flow.py", "--json", code=1).error
        (finding,) = error["diagnostics"]
        assert (finding["code"], finding["file"], finding["severity"]) == (code, "flow.py", "error")
        assert finding["line"] >= 1


def test_a_module_that_does_not_import(kitaru: Kitaru) -> None:
    path = kitaru.write("flow.py", "def f():\n    raise KeyError('no')\n\nf()\n")
    done = kitaru("run", "flow.py", code=1)
    assert "flow.py does not import: KeyError: 'no'" in done.err
    assert f'File "{path}", line 2, in f' in done.err
    assert "importlib" not in done.err


@pytest.mark.parametrize(
    ("declared", "installed"), [([], "nosuchlib"), (["NoSuchLib[all]>=2"], "'NoSuchLib[all]>=2'")]
)
def test_a_library_that_is_missing(declared: list[str], installed: str, kitaru: Kitaru) -> None:
    kitaru.write("pyproject.toml", f"[project]\nname = 'p'\ndependencies = {declared}\n")
    path = kitaru.write("review.py", flows.REVIEW)
    kitaru("run", "review.py", "-i", "topic=owls", "--no-input")
    path.write_text("import nosuchlib.parts\n" + path.read_text())
    commands = (
        ["run", "review.py", "-i", "topic=owls"],
        ["executions", "replay", "latest"],
        ["executions", "input", "latest", "--value", "true"],
    )
    for command in commands:
        error = kitaru(*command, "--json", code=1).error
        assert error["message"].endswith("needs nosuchlib, which this Python does not have.")
        assert error["help"].endswith(f"-m pip install {installed}"), error["help"]
        assert "line 1" in error["help"]
    assert kitaru("executions", "list", "--json").document["count"] == 1


def test_a_module_of_a_library_that_is_there(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", "import json.nosuchpart\n")
    error = kitaru("run", "flow.py", "--json", code=1).error
    assert "does not import: ModuleNotFoundError: No module named" in error["message"]
    assert "pip" not in error["help"]


def test_a_value_that_cannot_be_recorded(kitaru: Kitaru) -> None:
    kitaru.write("locked.py", flows.UNENCODABLE)
    error = kitaru("run", "locked.py", "--json", code=1).document["error"]
    assert error["type"].endswith("ValueNotEncodable")
    assert "inner" in error["message"] and "lock" in error["message"]


def test_an_unusable_store(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    kitaru.write("file", "")
    error = kitaru(
        "run", "review.py", "-i", "topic=x", "--store", "sqlite:file/x", "--json", code=3
    )
    assert error.error["exit_code"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_is_resumed(number: signal.Signals, kitaru: Kitaru) -> None:
    kitaru.write("slow.py", flows.SLOW)
    process = subprocess.Popen(
        kitaru.command(["run", "slow.py"]), cwd=kitaru.folder, env=kitaru.environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_file(kitaru.folder / "slow-began")
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert out == ""
    listed = kitaru("executions", "list", "--json").document["items"][0]
    assert listed["status"] == "interrupted"
    exec_id = listed["exec_id"]
    if number == signal.SIGINT:
        assert process.returncode == 130
        # The second where Ctrl-C came before the command began to wait for its run.
        told = f"execution {exec_id} is interrupted, not lost", "interrupted"
        help = f"help: kitaru executions resume {exec_id}\n"
        assert err.endswith(tuple(f"{one}\n{help}" for one in told))
    assert "resume   kitaru executions resume" in kitaru("executions", "get", exec_id).out
    kitaru.write("go", "")
    done = kitaru("executions", "resume", exec_id)
    assert done.out == "quick slow\n"
    assert [line.split()[1] for line in done.err.splitlines()] == ["slow", "both"]
