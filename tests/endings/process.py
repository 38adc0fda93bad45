"""A script whose flow ends while one call of Kitaru's fails; forked from here, so it starts fast.

Reads `FOLDER ENDING NUMBER FAILURE` per line, and answers with the exit code, `hang` after a while.
A child leaves the loop and ends as any script does, with all that Python does at its end. Without
a NUMBER it writes the calls to the file `calls`. The ending `again` finishes what is there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from kitaru import KitaruClient
from tests.endings import seed
from tests.endings.injector import Injector
from tests.waiting import attempts

SECONDS = 240


def end(how: str, number: int, failure: str) -> None:
    """Start the flow and let the script end, or be ended."""
    Injector(number, failure).arm()
    seed.ending.run(how)


def again() -> None:
    """Finish the one execution of the store, as its status says."""
    (item,) = KitaruClient().executions.list()
    executions, exec_id = KitaruClient().executions, item["exec_id"]
    status = executions.get(exec_id).status
    if status == "waiting":
        handle = executions.input(exec_id, True)
    else:
        handle = executions.retry(exec_id) if status == "failed" else executions.resume(exec_id)
    for _ in attempts():
        if handle.settle() != "waiting":
            break
        handle = executions.input(exec_id, True)
    Path("result").write_text(f"{status} {handle.wait()}")


def wait_for(child: int) -> str:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hang"


for line in sys.stdin:
    folder, how, number, failure = line.split()
    child = os.fork()
    if child == 0:
        break
    sys.stdout.write(f"{wait_for(child)}\n")
    sys.stdout.flush()
else:
    os._exit(0)

os.chdir(folder)
os.environ["KITARU_STORE"] = f"sqlite:{folder}/kitaru.db"
os.dup2(os.open("stdout", os.O_WRONLY | os.O_CREAT), 1)
os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
if how == "again":
    again()
else:
    end(how, int(number), failure)
