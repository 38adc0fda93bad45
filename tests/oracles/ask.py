"""Call a vendor's SDK, which is installed in an environment of its own."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests import forks

ROOT = Path(__file__).resolve().parents[2]
# A server starts at the first use of its SDK, in a test that may have set other variables.
_ENVIRONMENT = dict(os.environ)


def python(oracle: str) -> Path:
    """Return the interpreter of the oracle's environment. Skip the test without one."""
    found = ROOT / ".envs" / oracle / "bin" / "python"
    if not found.exists():
        pytest.skip(f"no {oracle} SDK here: python3 dev.py test installs it")
    return found


def ask(oracle: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the oracle says of each job; skip the test where it is not installed."""
    return _server(oracle, python(oracle)).ask(jobs)


@dataclass(frozen=True)
class _Server:
    """A process that has imported an SDK and answers each request in a fork; see `serving`."""

    process: subprocess.Popen[str]
    answers: TextIO
    output: str

    def ask(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"jobs": jobs, "environment": dict(os.environ)}) + "\n")
        stdin.flush()
        found: list[dict[str, Any]] | None = json.loads(self.answers.readline() or "null")
        assert found is not None, Path(self.output).read_text(errors="replace")[-4000:]
        return found


@cache
def _server(oracle: str, interpreter: Path) -> _Server:
    number, output = tempfile.mkstemp(prefix=f"{oracle}-")
    reading, writing = os.pipe()
    program = ROOT / "tests" / "oracles" / f"{oracle}_batch.py"
    process = subprocess.Popen(
        [interpreter, program, str(writing)], env=_ENVIRONMENT, pass_fds=(writing,),
        stdin=subprocess.PIPE, stdout=number, stderr=number, text=True,
    )  # fmt: skip
    os.close(number)
    os.close(writing)
    forks.pids.append(process.pid)
    assert process.stdin is not None
    # The server ends when its standard input closes, however this process ends.
    atexit.register(Path(output).unlink, missing_ok=True)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    answers = os.fdopen(reading)
    atexit.register(answers.close)
    return _Server(process, answers, output)
