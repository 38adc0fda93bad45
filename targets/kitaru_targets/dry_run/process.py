"""Start a container of a dry run: its command as a process on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Settings of this machine's Python, pip and Kitaru, which a container would not have.
_LEFT_OUT = ("KITARU_", "PYTHON", "PIP_", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to run a container: the task and step, and the document's own command.

    `command` returns the arguments for a folder of output files. `read` returns the output of a
    container that succeeded, None if a file is missing. `files` are the open files that it
    inherits.
    """

    task: str
    step: str
    attempt: int
    command: Callable[[Path], list[str]]
    environment: Mapping[str, str]
    read: Callable[[Path], Mapping[str, str] | None]
    files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one attempt of a step: exit code, printed output and written output."""

    task: str
    step: str
    attempt: int
    code: int
    log: str
    outputs: Mapping[str, str]
    succeeded: bool


Report = Callable[[Ended], None]


def run_command(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], files: Sequence[int] = ()
) -> tuple[int, str]:
    """Run a process to its end; return its exit code and its output, including errors.

    It inherits the open `files`.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        pass_fds=files,
    )
    return done.returncode, done.stdout


class Machine:
    """Runs containers as processes; `folder` is the working directory of the image."""

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        report: Report,
        answered: Callable[[], bool],
        further: Mapping[str, str] | None = None,
    ) -> None:
        """`answered` answers a pending wait, if the dry run has an answer for it.

        It returns whether it did. `further` are the documents beside the main one, by file name.
        """
        self.answered = answered
        self.further = further or {}
        self._folder = folder
        self._scratch = scratch
        self._report = report
        self._lock = threading.Lock()
        self.failures: dict[str, Ended] = {}

    def run(self, start: Start) -> Ended:
        """Run a container to its end; `failures` collects the tasks whose last attempt failed."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as made:
            folder = Path(made) / "outputs"
            first, *rest = start.command(folder)
            command = [sys.executable if first in ("python", "python3") else first, *rest]
            environment = self._environment(start)
            code, log = run_command(command, self._folder, environment, start.files)
            outputs = start.read(folder) if code == 0 else None
        complete = outputs is not None
        ended = Ended(
            start.task,
            start.step,
            start.attempt,
            code,
            log,
            outputs or {},
            complete,
        )
        with self._lock:
            self._report(ended)
            self.failures.pop(start.task, None)
            if not complete:
                self.failures[start.task] = ended
        return ended

    def _environment(self, start: Start) -> dict[str, str]:
        here = {k: v for k, v in os.environ.items() if not k.startswith(_LEFT_OUT)}
        # A command may start Python through a shell. It must find the Python of this process.
        here["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{here.get('PATH', os.defpath)}"
        # If the code is in the image, the image sets this variable, too.
        here["PYTHONPATH"] = str(self._folder)
        # A dry run installs nothing on this machine.
        limits = {"PIP_NO_INDEX": "1", "TMPDIR": str(self._scratch), "KITARU_MODE": "dry-run"}
        return {**here, **start.environment, **limits}
