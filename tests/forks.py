"""Run Python commands in forks of a process that has imported their modules.

Starting Python and importing Kitaru takes up to half a second, a fork takes a few milliseconds. Few
of the suite's commands and steps test how a process starts. For the others, `run` replaces
`subprocess.run`: each command is a separate process with the folder, variables, input and files of
the call. There are two servers, which start at first use:

- `command`, for `python -m kitaru`, has imported the modules of Kitaru and what they use;
- `step`, for all other commands, has imported the modules of the standard library that Kitaru
  needs, but not Kitaru: a step imports the copy in its bundle. It has compiled Kitaru, which takes
  most of a step's time.

A test of the start of a process (its imports, a terminal, hash seeds) starts it with `subprocess`.
So does `run` if a fork cannot replace the command.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.fork_client import Ask

ROOT = Path(__file__).resolve().parents[1]
# Variables that Python reads at the start of a process, so a fork ignores them.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")
# Exceptions: variables that a fork still obeys, or that change no result.
_IMITATED = {"PYTHONPATH", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
# The seed that documents set for their steps; a command without a seed may get any.
SEED = "0"
SHELL_PYTHON = """\
#!{python} -SE
import sys
sys.path.insert(0, {folder!r})
from fork_client import main
main({address!r}, {python!r})
"""

servers: dict[str, str] = {}
# Modules of the flows of this run that take long to import: the forks of steps have imported them.
preloaded: list[str] = []
# The server processes that this process started.
pids: list[int] = []
_starting = threading.RLock()


def run(
    command: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str = "",
    merge: bool = False,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its exit code and output, as `subprocess.run` does.

    Args:
        merge: write standard error into `stdout`.
        timeout: seconds after which the command is killed and TimeoutExpired is raised.
    """
    words = [str(word) for word in command]
    environment = dict(os.environ if env is None else env)
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        stdin.write(input.encode())
        stdin.seek(0)
        files = (stdin, out, out if merge else err)
        code = _code(words, str(cwd or Path.cwd()), environment, files, timeout)
        return subprocess.CompletedProcess(words, code, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    text = file.read().decode(errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _code(
    words: list[str],
    folder: str,
    environment: Mapping[str, str],
    files: Sequence[IO[bytes]],
    timeout: float | None,
) -> int:
    if not can_fork(words, environment):
        stdin, out, err = files
        return subprocess.run(
            words, cwd=folder, env=environment, stdin=stdin, stdout=out, stderr=err,
            timeout=timeout, check=False,
        ).returncode  # fmt: skip
    kind = "command" if words[1:3] == ["-m", "kitaru"] else "step"
    numbers = [file.fileno() for file in files]
    try:
        return Ask(address(kind), words, folder, environment, numbers, timeout).wait()
    except TimeoutError:
        raise subprocess.TimeoutExpired(words, timeout or 0) from None


def can_fork(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a fork behaves like a new process for this command."""
    first, *rest = words
    rest = rest[1:] if rest[:1] == ["-P"] else rest
    is_plain = first == sys.executable and rest and (rest[0] in ("-c", "-m") or rest[0][0] != "-")
    seed = environment.get("PYTHONHASHSEED", SEED)
    return bool(is_plain) and seed == SEED and _at_start(environment) == _at_start(os.environ)


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_START) and name not in _IMITATED
    }


def run_step(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], files: Sequence[int] = ()
) -> tuple[int, str]:
    """Run a step of a dry run; return its exit code and its log.

    The shell finds a `python3` that requests forks. A process that inherits files is not a fork.
    """
    if files:
        new = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False, pass_fds=files,
        )  # fmt: skip
        return new.returncode, new.stdout
    if command[0] != sys.executable:
        environment = {**environment, "PATH": with_forks(environment["PATH"])}
    done = run(command, cwd=folder, env=environment, merge=True)
    return done.returncode, done.stdout


def with_forks(path: str) -> str:
    """Return a PATH whose `python3` requests a fork, for steps that a shell or an SDK starts."""
    return f"{Path(address('step')).parent}{os.pathsep}{path}"


def address(kind: str) -> str:
    """Return the address of a server; start it at its first use in this process."""
    with _starting:
        if kind not in servers:
            if kind == "command":
                # A dry run is a command that starts steps.
                address("step")
            servers[kind] = _started(kind)
        return servers[kind]


def _started(kind: str) -> str:
    folder = Path(tempfile.mkdtemp(prefix="forks-"))
    path = str(folder / kind)
    shell = folder / "python3"
    beside = str(Path(__file__).parent)
    shell.write_text(SHELL_PYTHON.format(python=sys.executable, folder=beside, address=path))
    shell.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server", kind, path, json.dumps(servers),
         *preloaded],
        cwd=ROOT, env={**kept, "PYTHONHASHSEED": SEED},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    pids.append(server.pid)
    assert server.stdout is not None and server.stdin is not None
    assert server.stdout.readline() == b"ready\n", f"the fork server for {kind} did not start"
    server.stdout.close()
    # The server ends when its standard input closes, however this process ends.
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return path
