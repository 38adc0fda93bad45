"""Process marks: which process runs an execution, and whether that process has ended.

A killed process records nothing, so the last state of its execution stays `running`. To show such
an execution as `interrupted`, each process that runs one on this machine writes a mark to a local
store before it starts. The mark identifies the process by

    machine - boot - PID namespace - PID - start time

because a PID alone is reused. A reader compares the parts with its own machine:

    another machine, another PID namespace     it cannot know: the process may be alive
    the same machine, another boot             gone: the machine was started again
    the same boot, no such PID                 gone
    the same boot and PID, other start time    gone: the PID belongs to another process

Only this evidence counts; no clock is read. Buckets contain no marks, because their readers are on
other machines. For a bucket, Kitaru can show only the time of the last record. The records of an
execution are correct without marks. Marks are for display, and they decide which of several
processes that were started with one key runs the flow.

A second mark, `attending`, exists while a process waits for an answer and will continue the
execution by itself: a script in `.wait()`, or `kitaru run` at its question. A process that answers
then leaves the continuation to it, so that the checkpoints after the wait run in one process and
not in two. The journal is correct without this mark, and the mark of an ended process is ignored.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitaru.stores.base import Store
from kitaru.wire import keys

_UNKNOWN = "0"
_numbers = itertools.count()


def mark(store: Store, exec_id: str) -> tuple[str, bytes] | None:
    """Return the object that marks this process as running; None for a remote store."""
    return None if store.remote else (keys.process(exec_id, own_token()), b"")


def join(store: Store, exec_id: str) -> None:
    """Write the mark that this process runs an execution."""
    if made := mark(store, exec_id):
        store.create(*made)


def all_gone(store: Store, exec_id: str) -> bool:
    """Return whether every process that ran an execution has certainly ended.

    Return False if that is unknown: in a bucket, on another machine, or for executions of a version
    of Kitaru without marks.
    """
    if store.remote:
        return False
    place = keys.processes(exec_id)
    tokens = [key.removeprefix(place) for key in store.list(place)]
    return bool(tokens) and all(is_gone(token) for token in tokens)


@contextmanager
def attending(store: Store, exec_id: str) -> Iterator[None]:
    """While the block runs, mark that this process continues the execution once it is answered."""
    if store.remote:
        yield
        return
    key = keys.attendant(exec_id, own_token(), next(_numbers))
    store.create(key, b"")
    try:
        yield
    finally:
        store.delete(key)


def is_attended(store: Store, exec_id: str) -> bool:
    """Return whether another local process continues the execution once it is answered."""
    if store.remote:
        return False
    place, own = keys.attendants(exec_id), own_token()
    tokens = {key.removeprefix(place).partition("/")[0] for key in store.list(place)}
    return any(token != own and not is_gone(token) for token in tokens)


def take_over(store: Store, exec_id: str) -> bool:
    """Join an execution that no other process runs here; return False if one may run it.

    Of several processes that call this at the same time, one gets true. The others call it again
    later: that process may be killed. A process without a mark writes its mark before it looks, so
    of two processes one sees the mark of the other. The process whose token sorts first keeps its
    mark, and the others remove theirs, so they do not wait for each other.

    Return true for a remote store, which has no marks.
    """
    if store.remote:
        return True
    own = own_token()
    if not _alive(store, exec_id) - {own}:
        join(store, exec_id)
    alive = _alive(store, exec_id)
    others = alive - {own}
    if own in alive and own > min(others, default=own):
        store.delete(keys.process(exec_id, own))
    return not others


def _alive(store: Store, exec_id: str) -> set[str]:
    """Return the tokens of processes with a mark that are not known to have ended."""
    place = keys.processes(exec_id)
    tokens = {key.removeprefix(place) for key in store.list(place)}
    return {token for token in tokens if not is_gone(token)}


def is_gone(token: str) -> bool:
    """Return whether the process of a token has certainly ended."""
    parts = token.split("-")
    if len(parts) != 5 or not parts[3].isdecimal():
        return False
    machine, boot, namespace, pid, started = parts
    here_machine, here_boot, here_namespace = _place()
    if machine != here_machine or namespace != here_namespace:
        return False
    if _UNKNOWN not in (boot, here_boot) and boot != here_boot:
        return machine != _UNKNOWN
    if not _exists(int(pid)):
        return True
    now = _start_time(int(pid))
    return _UNKNOWN not in (started, now) and started != now


def own_token() -> str:
    """Return the text that identifies this process among all processes of all machines."""
    return _token(os.getpid())


def _token(pid: int) -> str:
    return "-".join([*_place(), str(pid), _start_time(pid)])


def _place() -> tuple[str, str, str]:
    """Return the machine, its boot and the PID namespace, each `0` if unknown.

    A container has a machine id of its own, or none, and a PID namespace of its own.
    """
    machine = _read("/etc/machine-id")
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        namespace = _UNKNOWN
    return _short(machine or os.uname().nodename), _short(boot), namespace


def _start_time(pid: int) -> str:
    # The command, in parentheses, may contain any character. Field 22 of proc(5) is the 20th after
    # it.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else _UNKNOWN


def _exists(pid: int) -> bool:
    state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1]
    if state in (["Z"], ["X"]):
        # A zombie: the process has ended, but its parent has not collected the exit status yet.
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else _UNKNOWN
