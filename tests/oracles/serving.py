"""Answer requests about a vendor's SDK, in the environment of that SDK.

Importing an SDK takes seconds. A program that calls `serve` imports it once, and each request is
answered in a fork, so that no request notices what an earlier one has changed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

_TARGETS = Path(__file__).resolve().parents[2] / "targets"


def product(folder: str) -> Any:
    """Return what `kitaru verify --with-sdk` asks an SDK with, which imports nothing of Kitaru."""
    if str(_TARGETS) not in sys.path:
        sys.path.append(str(_TARGETS))
    return import_module(f"kitaru_targets.{folder}.sdk")


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer each line of standard input with a line, until standard input closes.

    The argument of the program is the file descriptor of the answers: SDKs print on their own.

    A request contains the `environment` to answer in and a list of `jobs`. Its answer is a list
    with what `answer` returns for each job, or null if that fails; standard error has the reason.
    """
    answers = os.fdopen(int(sys.argv[1]), "w")
    os.set_inheritable(answers.fileno(), False)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _answer(json.loads(line), answer, answers)
        if os.waitpid(pid, 0)[1] != 0:
            answers.write("null\n")
            answers.flush()


def _answer(
    request: dict[str, Any], answer: Callable[[dict[str, Any]], dict[str, Any]], answers: TextIO
) -> None:
    code = 1
    try:
        os.environ.update(request["environment"])
        answers.write(json.dumps([answer(job) for job in request["jobs"]]) + "\n")
        answers.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
