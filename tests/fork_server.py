"""The process that commands of `tests.forks` are forked from.

usage: python -m tests.fork_server KIND ADDRESS SERVERS [MODULE ...]

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
import pkgutil
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
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

from tests import forks

PACKAGES = ("kitaru", "kitaru_compiler", "kitaru_targets")
# Modules that need an extra which few commands use, or import pytest, or are a program.
NOT_IMPORTED = {
    "kitaru.adapters", "kitaru.cli.language_server", "kitaru.pytest_plugin",
    "kitaru.runtime.telemetry.otel", "kitaru.testing", "kitaru_targets.bootstrap",
    "kitaru_targets.conformance", "kitaru_targets.start",
    "kitaru_targets.azureml.kitaru_start",
}  # fmt: skip
# What flows and libraries import when they are used.
USED_LATER = (
    *("concurrent.futures.thread", "ctypes", "encodings.ascii", "encodings.cp437"),
    *("encodings.unicode_escape", "importlib.readers", "libcst.native", "symtable"),
)
# The imports of a container's program, for their modules of the standard library.
STEP = """
import base64, importlib.metadata, sqlite3, subprocess, sys, tempfile, zipfile
import kitaru.client, kitaru.flows, kitaru.checkpoints, kitaru.model_calls, kitaru.stores.sqlite
import kitaru.runtime.__main__, kitaru.runtime.steps.blocks
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


def prepare_commands(_folder: Path, _modules: Sequence[str]) -> None:
    """Import and compile now what a command imports or compiles at its first use."""
    for name in PACKAGES:
        _import_all(name)
    for name in USED_LATER:
        importlib.import_module(name)
    from kitaru_templates import render

    for environment in (render._text(), render._python()):
        for name in environment.list_templates():
            if name.endswith(".py.j2") == (environment is render._python()):
                environment.get_template(name)
    from kitaru_targets.dry_run import process

    process.run_command = forks.run_step


def _import_all(name: str) -> None:
    if name not in NOT_IMPORTED and not name.endswith(".__main__"):
        module = importlib.import_module(name)
        for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
            _import_all(found.name)


def prepare_steps(folder: Path, modules: Sequence[str]) -> None:
    """Import the dependencies of a step, and Kitaru for steps whose copy of it is the same.

    A bundle contains a copy of Kitaru, and a step must import that copy. Compiling it and running
    its modules would take most of the time of a step.
    """
    listed = subprocess.run(
        [sys.executable, "-c", STEP], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in (*listed, *modules):
        if name.split(".")[0] not in ("__main__", "kitaru"):
            importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    Prepared([name for name in listed if name.split(".")[0] == "kitaru"]).install()
    Linked(folder / "linked").install()


class Prepared:
    """Modules of Kitaru that this process has run, for the imports of its forks.

    An import gets the prepared module if all files of the copy that it finds are the same. It
    imports what the module imports, and then sets the paths of the copy. If a file differs, the
    import runs the copy, and only its compilation is prepared.
    """

    def __init__(self, names: list[str]) -> None:
        found = importlib.util.find_spec("kitaru")
        assert found is not None and found.origin is not None
        self._root = Path(found.origin).parents[1]
        installed = {path.read_bytes(): path for path in Path(found.origin).parent.rglob("*.py")}
        self._compiled = {
            source: SourceFileLoader("", str(path)).source_to_code(source, str(path))
            for source, path in installed.items()
        }
        # What the import statements of each module name, in order.
        self._imports: dict[str, list[str]] = {}
        self._use_compiled()
        with self._recorded():
            for name in names:
                importlib.import_module(name)
        # It compiles its patterns at its first use.
        sys.modules["kitaru.wire.redaction"].redacted("")
        known = [name for name in sys.modules if name.split(".")[0] == "kitaru"]
        self._modules = {name: sys.modules.pop(name) for name in known}
        self._files = {}
        for name, module in self._modules.items():
            parent, _, child = name.rpartition(".")
            if parent and vars(self._modules[parent]).get(child) is module:
                delattr(self._modules[parent], child)
            path = Path(str(module.__file__))
            self._files[name] = (str(path.relative_to(self._root)), path.read_bytes())
        before = f"{self._root}{os.sep}"
        # The variables of each module that are paths of the copy.
        self._paths = {
            name: {key: value.removeprefix(before) for key, value in vars(module).items()
                   if isinstance(value, str) and value.startswith(before)}
            for name, module in self._modules.items()
        }  # fmt: skip
        self._equal: dict[str, bool] = {}

    def install(self) -> None:
        """Let the imports of this process and its forks use the modules."""
        create, execute = SourceFileLoader.create_module, SourceFileLoader.exec_module

        def create_module(loader: SourceFileLoader, spec: Any) -> Any:
            if not self._is_equal(spec.name, spec.origin):
                return create(loader, spec)
            module = self._modules[spec.name]
            # The import sets these for the copy.
            for name in ("__file__", "__cached__", "__loader__", "__path__"):
                if name in vars(module):
                    vars(module)[name] = None
            return module

        def exec_module(loader: SourceFileLoader, module: types.ModuleType) -> None:
            name = module.__name__
            if self._modules.get(name) is not module:
                execute(loader, module)
                return
            for other in self._imports.get(name, ()):
                if other not in sys.modules:
                    importlib.import_module(other)
            place, source = self._files[name]
            path = str(module.__file__)
            _imp._fix_co_filename(self._compiled[source], path)
            root = path.removesuffix(place)
            for key, below in self._paths[name].items():
                vars(module)[key] = root + below
            if "_SESSION" in vars(module):
                # Processes must not share results that the cache stores for one of them.
                vars(module)["_SESSION"] = uuid.uuid4().hex

        SourceFileLoader.create_module = create_module  # type: ignore[assignment,method-assign]
        SourceFileLoader.exec_module = exec_module  # type: ignore[assignment,method-assign]

    def _is_equal(self, name: str, origin: str) -> bool:
        """Return whether a module is prepared, and all files of the copy are the same."""
        place, _ = self._files.get(name, (None, b""))
        if place is None or not origin.endswith(os.sep + place):
            return False
        root = origin.removesuffix(place)
        if root not in self._equal:
            self._equal[root] = all(
                _content(root + place) == source for place, source in self._files.values()
            )
        return self._equal[root]

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Record the import statements of modules."""
        original = builtins.__import__

        def record(
            name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
        ) -> types.ModuleType:
            module = original(name, globals, locals, fromlist, level)
            # Functions have other locals.
            if globals is not None and locals is globals:
                name = importlib.util.resolve_name("." * level + name, globals["__package__"])
                names = [name, *(f"{name}.{each}" for each in fromlist or ())]
                self._imports.setdefault(globals["__name__"], []).extend(
                    each for each in names if each in sys.modules and each.startswith("kitaru")
                )
            return module

        builtins.__import__ = record
        try:
            yield
        finally:
            builtins.__import__ = original

    def _use_compiled(self) -> None:
        """Compile no file of Kitaru again."""
        get_code = SourceFileLoader.get_code

        def get_known_code(loader: SourceFileLoader, name: str) -> Any:
            path = loader.get_filename(name)
            if not name.startswith("kitaru"):
                return get_code(loader, name)
            code = self._compiled.get(loader.get_data(path))
            if code is None:
                return get_code(loader, name)
            _imp._fix_co_filename(code, path)
            return code

        SourceFileLoader.get_code = get_known_code  # type: ignore[method-assign]


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.readall()
    except OSError:
        return None


class Linked:
    """The files of Kitaru, which steps link where they would unpack the same files.

    The checksum and the size of a file in a bundle tell whether it is the same.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        found = importlib.util.find_spec("kitaru")
        assert found is not None and found.origin is not None
        package = Path(found.origin).parent
        self._files = {}
        for number, path in enumerate(package.rglob("*.py")):
            content, copy = path.read_bytes(), folder / str(number)
            copy.write_bytes(content)
            name = path.relative_to(package.parent).as_posix()
            self._files[name] = zlib.crc32(content), len(content), copy

    def install(self) -> None:
        """Let the archives that forks unpack link files."""
        extract = zipfile.ZipFile.extractall

        def extractall(archive: zipfile.ZipFile, path: str) -> None:
            others, folders = [], set()
            for member in archive.infolist():
                *same, copy = self._files.get(member.filename, (None,))
                if same != [member.CRC, member.file_size]:
                    others.append(member)
                    continue
                target = os.path.join(path, member.filename)  # noqa: PTH118
                folder = target.rpartition("/")[0]
                if folder not in folders:
                    folders.add(folder)
                    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
                try:
                    os.link(copy, target)  # type: ignore[arg-type]
                except OSError:
                    # The step unpacks its bundle on another file system.
                    others.append(member)
            extract(archive, path, others)

        zipfile.ZipFile.extractall = extractall  # type: ignore[assignment,method-assign]


def start(kind: str, address: str, known: str, *modules: str) -> None:
    """Import the modules for a kind of command, then serve until the parent process ends."""
    forks.servers.update(json.loads(known))
    {"step": prepare_steps, "command": prepare_commands}[kind](Path(address).parent, modules)
    try:
        serve(address)
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


if __name__ == "__main__":
    start(*sys.argv[1:])
