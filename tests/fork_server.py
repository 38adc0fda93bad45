"""The process that commands of `tests.forks` are forked from.

usage: python -m tests.fork_server KIND ADDRESS SERVERS

It never runs a thread, because a fork has only one thread. It reads its standard input only to
detect the end of the process that started it.
"""

from __future__ import annotations

import _imp
import atexit
import builtins
import gc
import importlib
import importlib.util
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

from tests import forks

COMMAND = (
    *("kitaru", "kitaru.client", "kitaru.cli.app", "kitaru.stores.sqlite"),
    *("kitaru_compiler.compile", "kitaru_compiler.frontend.reader"),
    *("kitaru_targets.build", "kitaru_targets.dry_run"),
)
# The imports of a container's program, for their modules of the standard library.
STEP = """
import base64, importlib.metadata, sqlite3, subprocess, sys, tempfile, zipfile
import kitaru.client, kitaru.runtime.__main__, kitaru.runtime.steps.blocks, kitaru.stores.sqlite
print(*sys.modules)
"""


def serve(address: str) -> None:
    """Fork for each request, and report the exit code of the process to the client."""
    # The import path of a new process: without this module's folder and the paths of the tests.
    base = [entry for entry in sys.path[1:] if entry not in _of_environment(os.environ)]
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(address)
        listener.listen(64)
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        gc.collect()
        gc.freeze()
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    return
                if key.fileobj is not listener:
                    pid, connection = key.data
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    _tell(connection, code)
                    connection.close()
                    continue
                connection = listener.accept()[0]
                request, files = _received(connection)
                pid = os.fork()
                if pid == 0:
                    for number, file in enumerate(files):
                        os.dup2(file, number)
                    os.closerange(3, 1024)
                    _become(*request, base)
                for file in files:
                    os.close(file)
                _tell(connection, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))


def _received(connection: socket.socket) -> tuple[Any, list[int]]:
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    data = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
    return json.loads(data), files


def _tell(connection: socket.socket, number: int) -> None:
    # The client may have stopped waiting.
    with suppress(OSError):
        connection.sendall(number.to_bytes(8, "big", signed=True))


def _of_environment(environment: Any) -> list[str]:
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    return [str(Path.cwd() / entry) for entry in entries if entry]


def _become(
    words: list[str], folder: str, environment: dict[str, str], umask: int, base: list[str]
) -> NoReturn:
    """Become the process that a command starts: its folder, variables, path and main module."""
    code = 1
    try:
        os.chdir(folder)
        os.umask(umask)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        sys.orig_argv[:] = words
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        sys.path[:] = ["", *_of_environment(environment), *base]
        importlib.invalidate_caches()
        code = _main(words[1:])
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        os._exit(code)


def _main(words: list[str]) -> int:
    """Run the main module and the exit handlers; return the exit code."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    try:
        _run(main, words)
        code = 0
    except SystemExit as leaving:
        code = _code(leaving.code)
    except BaseException as error:
        _show(error)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return code


def _run(main: types.ModuleType, words: list[str]) -> None:
    first, *rest = words
    is_safe = first == "-P"
    if is_safe:
        # Only the path of the process can be imitated; `sys.flags` are those of the server.
        first, *rest = rest
        del sys.path[0]
    if first == "-m":
        name, *rest = rest
        sys.argv[:] = ["-m", *rest]
        if not is_safe:
            sys.path[0] = str(Path.cwd())
        runpy._run_module_as_main(name)  # type: ignore[attr-defined]
        return
    if first == "-c":
        program, *rest = rest
        sys.argv[:] = ["-c", *rest]
        exec(compile(program, "<string>", "exec"), main.__dict__)
        return
    sys.argv[:] = [first, *rest]
    path = Path(first).absolute()
    if not is_safe:
        sys.path[0] = str(path.resolve().parent)
    main.__file__ = str(path)
    exec(compile(path.read_bytes(), str(path), "exec"), main.__dict__)


def _show(error: BaseException) -> None:
    """Print an error as a new process would: without the frames of this module."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    sys.excepthook(type(error), error.with_traceback(frames), frames)


def _code(code: Any) -> int:
    """Return the exit code of `sys.exit(code)`."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def prepare_commands() -> None:
    """Import the modules of the command line."""
    for name in COMMAND:
        importlib.import_module(name)
    from kitaru_targets.dry_run import process

    process.run_command = forks.run_step


def prepare_steps() -> None:
    """Import the dependencies of a step without Kitaru, and compile Kitaru.

    A bundle contains a copy of Kitaru, and a step must import that copy. Compiling it would take
    most of the time of a step. Here the step uses the code of the installed file if the copy has
    the same source.
    """
    listed = subprocess.run(
        [sys.executable, "-c", STEP], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        if name.split(".")[0] not in ("__main__", "kitaru"):
            importlib.import_module(name)
    found = importlib.util.find_spec("kitaru")
    assert found is not None and found.origin is not None
    installed = {path.read_bytes(): path for path in Path(found.origin).parent.rglob("*.py")}
    compiled = {
        source: SourceFileLoader("", str(path)).source_to_code(source, str(path))
        for source, path in installed.items()
    }
    get_code = SourceFileLoader.get_code

    def get_known_code(loader: SourceFileLoader, name: str) -> Any:
        path = loader.get_filename(name)
        if not name.startswith("kitaru"):
            return get_code(loader, name)
        code = compiled.get(loader.get_data(path))
        if code is None:
            return get_code(loader, name)
        _imp._fix_co_filename(code, path)
        return code

    SourceFileLoader.get_code = get_known_code  # type: ignore[method-assign]


def start(kind: str, address: str, known: str) -> None:
    """Import the modules for a kind of command, then serve until the parent process ends."""
    forks.servers.update(json.loads(known))
    {"step": prepare_steps, "command": prepare_commands}[kind]()
    try:
        serve(address)
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


if __name__ == "__main__":
    start(*sys.argv[1:])
