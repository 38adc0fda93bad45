"""How a script ends that leaves an execution behind: what it prints, and its exit code."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient

FLOW = """
import asyncio, atexit, contextvars, sys, threading
from concurrent.futures import ThreadPoolExecutor
import kitaru
from kitaru import checkpoint, flow

@checkpoint(cache=False)
def draft(topic: str) -> str:
    if topic == "broken":
        raise ValueError("no such topic")
    return f"draft of {topic}"

@flow
def review(topic: str) -> str:
    text = draft(topic)
    return text if kitaru.wait(name="approve", question="Fine?", schema=bool) else "rejected"

atexit.register(lambda: print("handler", flush=True))
"""


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.chdir(tmp_path)


def script(end: str, *options: str) -> subprocess.CompletedProcess[str]:
    Path("seed.py").write_text(FLOW + end)
    return subprocess.run(
        [sys.executable, *options, "seed.py"], capture_output=True, text=True, timeout=240,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def only() -> Any:
    (item,) = KitaruClient().executions.list()
    return KitaruClient().executions.get(item["exec_id"])


WAITING = {
    "run": "review.run('owls')",
    "sys.exit": "review.run('owls')\nsys.exit()",
    "settle": "review.run('owls').settle()",
    "thread": "threading.Thread(target=lambda: review.run('owls')).start()",
    "guarded": "if __name__ == '__main__':\n    review.run('owls')",
    "event loop": "async def main():\n    review.run('owls')\n\nasyncio.run(main())",
}


@pytest.mark.parametrize("end", WAITING.values(), ids=WAITING.keys())
def test_a_script_that_ends_while_its_execution_waits_tells_how_to_answer(end: str) -> None:
    done = script(end)
    exec_id = only().exec_id
    assert (done.returncode, done.stdout) == (0, "handler\n")
    assert done.stderr.splitlines() == [
        f"waiting  review  {exec_id}",
        "wait     approve: Fine? [y/n]",
        f"answer   kitaru executions input {exec_id} --wait approve --value true",
    ]


FAILED = {name: end.replace("owls", "broken") for name, end in WAITING.items() if name != "settle"}


@pytest.mark.parametrize("end", FAILED.values(), ids=FAILED.keys())
def test_a_script_whose_execution_failed_tells_how_to_retry_and_exits_with_1(end: str) -> None:
    done = script(end)
    exec_id = only().exec_id
    assert (done.returncode, done.stdout) == (1, "handler\n")
    assert done.stderr.splitlines()[-3:] == [
        f"failed   review  {exec_id}",
        "error    in draft: ValueError: no such topic",
        f"help     Fix the cause, then: kitaru executions retry {exec_id}",
    ]
    assert done.stderr.count("Traceback") == 1


HANDLED = {
    "caught": "try:\n    review.run('broken').wait()\nexcept Exception:\n    pass",
    "settled": "assert review.run('broken').settle() == 'failed'",
    "retried": """
tries = []

@flow
def stubborn() -> int:
    tries.append(1)
    if len(tries) == 1:
        raise ValueError("not yet")
    return len(tries)

left = stubborn.options(exec_id='e').run()
while left.status != "failed":
    pass
assert stubborn.options(exec_id='e').run().wait() == 2
""",
}


@pytest.mark.parametrize("end", HANDLED.values(), ids=HANDLED.keys())
def test_a_failure_that_the_script_got_is_its_own_business(end: str) -> None:
    done = script(end)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handler\n", "")


def test_a_failure_that_wait_raised_is_not_printed_twice() -> None:
    done = script("review.run('broken').wait()")
    assert done.returncode == 1
    assert done.stderr.count("kitaru executions retry") == 1


@pytest.mark.parametrize("how", ["interactive", "pytest"])
def test_a_process_that_is_not_the_script_s_own_is_left_alone(how: str) -> None:
    if how == "interactive":
        done = subprocess.run(
            [sys.executable, "-i", "-q"], input=FLOW + "\nreview.run('broken')\n",
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    else:
        Path("test_seed.py").write_text(
            FLOW + "\ndef test_it():\n    h = review.run('broken')\n    while h.status != 'failed':"
            "\n        pass\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_seed.py"],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "failed   review" not in done.stderr + done.stdout


def test_wait_prints_the_question_once_and_continues_when_another_process_answers() -> None:
    Path("seed.py").write_text(FLOW + "print(review.run('owls').wait(), flush=True)")
    process = subprocess.Popen(
        [sys.executable, "seed.py"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    head = [process.stderr.readline() for _ in range(3)]
    command = head[2].split()[1:]
    assert command[:3] == ["kitaru", "executions", "input"]
    answer = subprocess.run(
        [sys.executable, "-m", "kitaru", *command[1:]], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out, err) == (0, "draft of owls\nhandler\n", "")
    assert only().status == "completed"


def at_terminal(end: str, typed: str) -> tuple[int, str]:
    """Run a script on a terminal of its own, at which a person types when asked."""
    Path("seed.py").write_text(FLOW + end)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "seed.py"])
    shown = ""
    try:
        while True:
            try:
                shown += os.read(terminal, 4096).decode()
            except OSError:
                break
            if typed and shown.endswith("[y/n] "):
                os.write(terminal, typed[:2].encode())
                typed = typed[2:]
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.replace("\r", "")


def test_wait_asks_a_person_at_a_terminal() -> None:
    code, shown = at_terminal("print(review.run('owls').wait(), flush=True)", "?\ny\n")
    assert code == 0
    assert shown.count("[y/n]") == 2
    assert "kitaru executions input" not in shown
    assert "draft of owls\nhandler\n" in shown


def test_a_question_at_a_terminal_ends_when_another_process_answers() -> None:
    asked = threading.Event()

    def answers() -> None:
        while not (items := KitaruClient().executions.list(status="waiting")):
            asked.wait(0.1)
        KitaruClient().executions.input(items[0]["exec_id"], False)

    other = threading.Thread(target=answers)
    other.start()
    code, shown = at_terminal("print(review.run('owls').wait(), flush=True)", "")
    other.join()
    assert (code, "rejected\n" in shown) == (0, True)


# Threads that Python joins at exit, and that a flow must not continue.
POOLS = """
def within(work):
    return contextvars.copy_context().run, work

def in_pool(work):
    with ThreadPoolExecutor() as pool:
        return pool.submit(*within(work)).result()

def in_loop(work):
    return asyncio.run(to_thread(work))

async def to_thread(work):
    return await asyncio.to_thread(work)

def in_thread(work):
    thread = threading.Thread(target=within(work)[0], args=(work,), daemon=False)
    thread.start()
    thread.join()

def nested(work):
    return in_pool(lambda: in_loop(lambda: in_pool(work)))

def beside(work):
    with ThreadPoolExecutor() as pool:
        return [one.result() for one in [pool.submit(*within(work)), pool.submit(*within(work))]]

STOPS = {
    "wait": lambda: kitaru.wait(name="approve", schema=bool),
    "diverge": lambda: draft("owls" + LATER),
    "cancel": lambda: (client.executions.cancel(ids[0]), draft("owls")),
}

@flow
def threads(how: str, stop: str) -> str:
    ids.append(client.executions.list()[0]["exec_id"])
    draft("before")
    globals()[how](STOPS[stop])
    return "after"

ids = []
client = kitaru.KitaruClient()
"""
PLACES = ["in_pool", "in_loop", "in_thread", "nested", "beside"]


@pytest.mark.parametrize("end", ["", ".settle()"], ids=["run", "settle"])
@pytest.mark.parametrize("place", PLACES)
def test_a_wait_in_any_thread_ends_the_script(place: str, end: str) -> None:
    done = script(f"{POOLS}LATER = ''\nthreads.run('{place}', 'wait'){end}")
    assert done.returncode == 0, done.stderr
    assert only().status == "waiting"
    assert "answer   kitaru executions input" in done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_cancellation_in_any_thread_ends_the_script(place: str) -> None:
    done = script(f"{POOLS}LATER = ''\nthreads.run('{place}', 'cancel')")
    assert done.returncode == 0, done.stderr
    assert only().status == "cancelled"


@pytest.mark.parametrize("place", PLACES)
def test_a_divergence_in_any_thread_ends_the_process_with_1(place: str) -> None:
    first = f"{POOLS}LATER = ''\nthreads.function.__globals__['STOPS']['wait'] = lambda: "
    script(
        first + f"(draft('owls'), kitaru.wait(name='approve', schema=bool))\n"
        f"threads.run('{place}', 'wait')"
    )
    exec_id = only().exec_id
    again = f"{POOLS}LATER = 'x'\nSTOPS['wait'] = STOPS['diverge']\nthreads.resume('{exec_id}')"
    done = script(again)
    assert done.returncode == 1, done.stderr
    assert "Diverged" in done.stderr
    assert only().status == "failed"


@pytest.mark.parametrize("place", PLACES)
def test_kitaru_run_ends_at_a_wait_in_any_thread(place: str) -> None:
    Path("seed.py").write_text(f"{POOLS}LATER = ''")
    Path("seed.py").write_text(FLOW + POOLS + "LATER = ''\n")
    done = subprocess.run(
        [sys.executable, "-m", "kitaru", "run", "seed.py:threads", "-i", f"how={place}",
         "-i", "stop=wait"],
        capture_output=True, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert only().status == "waiting"


def test_a_flow_that_continues_after_its_script_may_use_a_pool() -> None:
    source = """
@checkpoint(cache=False)
def slow(topic: str) -> str:
    import time
    threading.main_thread().join(0.2)
    return topic

@flow
def late() -> str:
    slow("owls")
    return in_pool(lambda: slow("kayaks")) + in_loop(lambda: slow("!"))

late.run()
"""
    done = script(POOLS + source)
    assert (done.returncode, done.stderr) == (0, "")
    assert only().status == "completed"
