"""A process of this machine that runs an execution."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import IO

from kitaru.errors import EnvironmentFailure, FlowError, KitaruError, UsageError

_LAST_LINES = 12
_LAST_BYTES = 16 * 1024


class Process:
    """A process that runs an execution."""

    def __init__(self, popen: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        """`log` is the file to which the process prints."""
        self.popen = popen
        self._last_lines = ""
        # Collects the exit status in a long-running program.
        self._end = threading.Thread(target=self._attend, args=(log,), daemon=True)
        self._end.start()

    def _attend(self, log: IO[bytes]) -> None:
        with log:
            self.popen.wait()
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = log.read().decode("utf-8", "replace").rstrip().splitlines()
        self._last_lines = "\n".join(lines[-_LAST_LINES:])

    def failure(self) -> KitaruError:
        """Return the error that describes the end of the process."""
        self._end.join()
        code = self.popen.returncode
        kind = {1: FlowError, 2: UsageError}.get(code, EnvironmentFailure)
        return kind(f"The process of the flow ended with code {code}:\n{self._last_lines}")
