"""Request a process from a fork server of `tests.forks`, and wait for its end.

As a program, it is the `python3` of a dry run's shell; its own file contains the address. It
imports few modules, because it starts for every step.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence


class Ask:
    """One request: `pid` is the process; `wait` returns its exit code, negative for a signal."""

    def __init__(
        self,
        address: str,
        words: Sequence[str],
        folder: str,
        environment: Mapping[str, str],
        files: Sequence[int],
        timeout: float | None = None,
    ) -> None:
        data = json.dumps([words, folder, dict(environment), _umask()]).encode()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        socket.send_fds(self._connection, [len(data).to_bytes(8, "big")], files)
        self._connection.sendall(data)
        self.pid = self._number()
        self._connection.settimeout(timeout)

    def wait(self) -> int:
        """Return the exit code. After the request's `timeout`, kill it and raise TimeoutError."""
        try:
            return self._number()
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            self._connection.close()

    def _number(self) -> int:
        data = self._connection.recv(8, socket.MSG_WAITALL)
        assert len(data) == 8, "the fork server is gone"
        return int.from_bytes(data, "big", signed=True)


def _umask() -> int:
    # `os.umask` can only be read by changing it, for other threads too.
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))


def main(address: str, executable: str) -> None:
    """Run the command in a fork of the server, with the same arguments, folder and files."""
    words = [executable, *sys.argv[1:]]
    code = Ask(address, words, os.getcwd(), os.environ, [0, 1, 2]).wait()  # noqa: PTH109
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)
