"""Module names under which definitions are recorded, and the modules of the project."""

from __future__ import annotations

import functools
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from kitaru.wire import disk

OURS = ("kitaru", "kitaru_compiler", "kitaru_targets", "kitaru_templates")
SCRIPT = "__main__"
# The name of the script in a child process of `multiprocessing`.
_SCRIPT_NAMES = (SCRIPT, "__mp_main__")
_WRAPPERS = 100
_COROUTINE = 0x80
_OUTSIDE = ("site-packages", "dist-packages")


class Script(NamedTuple):
    """The `__main__` of this process: its globals, its name in records, and its file."""

    module: ModuleType
    namespace: dict[str, Any]
    name: str
    file: Path | None


class _Namespace(ModuleType):
    """Presents globals as a module, for tools that execute code in a dict as `__main__`."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__(SCRIPT)
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return self._namespace[name]
        except KeyError:
            raise AttributeError(name) from None


_script: Script | None = None


def recorded_name(module: str) -> str:
    """Return the importable name of `module`; a script's `__main__` becomes its file's name.

    `python flow.py` and `kitaru run flow.py` load one file under two names. Records contain a name
    that both processes, and a step on another machine, can import. Code without a file (standard
    input, `python -c`, a notebook) is recorded as `__main__`, because only its process has it.
    """
    return script().name if module in _SCRIPT_NAMES else module


def home_name(function: Any) -> str:
    """Return the name under which the module that defines `function` is recorded.

    Called when a flow or a checkpoint is defined. Tools that run a script (`runpy.run_path`,
    debuggers, profilers) replace `__main__` with their own module while the script's top level
    runs, or execute the script with globals that belong to no module.
    """
    module = getattr(function, "__module__", None) or SCRIPT
    if module in _SCRIPT_NAMES:
        scope = getattr(undecorated(function), "__globals__", None)
        if isinstance(scope, dict) and scope.get("__name__") in _SCRIPT_NAMES:
            _take(scope)
    return recorded_name(module)


def script() -> Script:
    """Return this process's script.

    The name is determined once, when Kitaru is imported or the script defines a flow. Later it is
    unknown: Python removes `__file__` from a script whose top level has ended, and executions
    continue after that.
    """
    return _script or _take(vars(sys.modules[SCRIPT]))


def _take(namespace: dict[str, Any]) -> Script:
    global _script
    if _script is None or _script.namespace is not namespace:
        modules = (sys.modules.get(name) for name in _SCRIPT_NAMES)
        known = (module for module in modules if module and vars(module) is namespace)
        file = _source_file(namespace.get("__file__"))
        module = next(known, None) or _Namespace(namespace)
        _script = Script(module, namespace, _script_name(namespace, file), file)
    return _script


def _script_name(namespace: dict[str, Any], file: Path | None) -> str:
    spec = namespace.get("__spec__")
    # Profilers invent a module specification with the name `__main__`.
    if spec is not None and spec.name not in _SCRIPT_NAMES:
        return str(spec.name)
    # A console script has no suffix, and the same name as the package that it starts.
    return SCRIPT if file is None else place_of(file)[1]


def _source_file(path: str | None) -> Path | None:
    if not path or not path.endswith(".py"):
        return None
    # The meaning of a relative path changes with the working directory.
    return _resolved(path) if os.path.isabs(path) else Path(path).resolve()  # noqa: PTH117


@lru_cache(maxsize=4096)
def _resolved(path: str) -> Path:
    # A cache key needs the module of each object that a call reaches, thousands of times.
    return Path(path).resolve()


def undecorated(function: Any) -> Any:
    """Return the function inside decorators that use `functools.wraps`."""
    seen = 0
    while (inner := getattr(function, "__wrapped__", None)) is not None and seen < _WRAPPERS:
        function, seen = inner, seen + 1
    return function


def is_async(function: Any) -> bool:
    """Return whether a function is defined with `async def`. Does not import `inspect`."""
    return bool(function.__code__.co_flags & _COROUTINE)


def place_of(file: Path, module: str = "") -> tuple[Path, str]:
    """Return the import root of a source file and the dotted name of its module.

    The import root is the folder above the outermost package (folder with an `__init__.py`) that
    contains the file. `module` is a name that the user wrote. If it has more parts, these are
    namespace packages without an `__init__.py`, and the root is above them.

    A file name that `import` cannot find is converted: `my.flow.v2.py` is the module
    `my_flow_v2`, and a `__main__.py` outside a package is `_main_`.

    Example:
        >>> place_of(Path("/proj/flows/agent.py"))
        (PosixPath('/proj/flows'), 'agent')
        >>> place_of(Path("/proj/flows/agent.py"), "flows.agent")
        (PosixPath('/proj'), 'flows.agent')
    """
    parts = [] if file.stem == "__init__" else [file.stem.replace(".", "_")]
    folder = file.parent
    while disk.is_file(folder / "__init__.py"):
        parts.insert(0, folder.name)
        folder = folder.parent
    if module.count(".") >= len(parts):
        return root_of(file, module), module
    return folder, "_main_" if parts == ["__main__"] else ".".join(parts)


def root_of(file: Path, module: str) -> Path:
    """Return the import root under which `file` is the module of that dotted name."""
    return file.parents[module.count(".") + (file.stem == "__init__")]


def loaded(name: str) -> ModuleType | None:
    """Return the module recorded as `name` if this process has imported it, else None."""
    if name == script().name:
        return script().module
    return sys.modules.get(name)


def file_of(name: str) -> Path | None:
    """Return the source file of the loaded module recorded as `name`, or None."""
    if name == script().name:
        return script().file
    return _source_file(getattr(loaded(name), "__file__", None))


def of_project(name: str) -> bool:
    """Return whether the loaded module recorded as `name` belongs to the project."""
    if name == SCRIPT:
        # Code that is typed into a notebook or an interpreter.
        return True
    file = None if name.partition(".")[0] in OURS else file_of(name)
    return file is not None and is_project(file)


@lru_cache(maxsize=4096)
def is_project(file: Path) -> bool:
    """Return whether a source file is outside the standard library and installed packages."""
    return not any(part in _OUTSIDE for part in file.parts) and not file.is_relative_to(_stdlib())


@lru_cache(maxsize=1)
def _stdlib() -> Path:
    return Path(functools.__file__).resolve().parent
