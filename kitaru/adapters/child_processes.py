"""Child processes that end with the process that started them.

A harness starts servers and command line tools as child processes. SIGKILL of a flow's process
leaves its children running. Such a child reads the requests that are still in its pipe, so a tool
would run after the resumed flow has recorded the same call.

    flow's process -> this file, as a script -> the command

The kernel sends the script a signal when its parent dies, and it kills its descendants. The command
may be a launcher such as `npx` or `uvx`, or start programs in sessions of their own. Orphans below
the script become its children.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

# Operations of prctl.
_PARENT_DEATH_SIGNAL, _CHILD_SUBREAPER = 1, 36


def bound_command(command: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line that runs a command which ends with this process.

    Only Linux reports the death of a parent. Elsewhere, the command line is the one passed.
    """
    if sys.platform != "linux":
        return [command, *arguments]
    # Without `site` and the user's variables, the script starts in some milliseconds.
    script = [sys.executable, "-I", "-S", __file__]
    return [*script, str(os.getpid()), command, *arguments]


def _kill_descendants(_: int, __: FrameType | None) -> NoReturn:
    # A killed process may have started another one meanwhile.
    while found := _descendants():
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)
    os._exit(1)


def _descendants() -> set[int]:
    """Return the processes below this one that have not ended."""
    parents = {}
    for process in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with suppress(OSError), open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            # The name of the program, in parentheses, may contain anything.
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(process)] = int(parent)
    found, added = set[int](), {os.getpid()}
    while added:
        added = {process for process, parent in parents.items() if parent in added}
        found |= added
    return found


def _run(parent: int, command: list[str]) -> NoReturn:
    signal.signal(signal.SIGUSR1, _kill_descendants)
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1)
    _die_with(parent, signal.SIGUSR1)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(own, signal.SIGKILL)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda number, _: os.kill(child, number))
    # Only the command reads and writes. An open pipe would hide its end.
    for pipe in (0, 1):
        os.close(pipe)
    ended, status = os.waitpid(-1, 0)
    while ended != child:
        # An orphan among its descendants.
        ended, status = os.waitpid(-1, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _die_with(parent: int, number: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, number)
    if os.getppid() != parent:
        # It died before the signal was set.
        os._exit(1)


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
