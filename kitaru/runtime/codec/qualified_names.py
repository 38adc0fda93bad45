"""Objects recorded by name: those that their module contains under that name."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from kitaru.errors import ClassChanged, FlowError
from kitaru.wire import modules

# Classes that were moved or renamed, by their earlier recorded place, and the reverse.
_moved: dict[tuple[str, str], type] = {}
_moved_callees: dict[str, str] = {}
_BY_NAME = (type, FunctionType, BuiltinFunctionType)


def name_of(value: Any) -> tuple[str, str] | None:
    """Return (module, qualified name) under which `value` itself can be imported, or None."""
    module: Any
    qualname: Any
    if isinstance(value, _BY_NAME):
        module, qualname = value.__module__, value.__qualname__
    else:
        state = instance_dict(value)
        module, qualname = state.get("__module__"), state.get("__qualname__")
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    recorded = modules.recorded_name(module)
    home = modules.loaded(recorded)
    return (recorded, qualname) if home and _follow(home, qualname) is value else None


def module_name(value: ModuleType) -> str | None:
    """Return the name under which the module `value` is imported, or None."""
    recorded = modules.recorded_name(value.__name__)
    return recorded if modules.loaded(recorded) is value else None


def declare_moved(old: tuple[str, str], cls: type) -> None:
    """Resolve the recorded name `old`, a module and a qualified name, to `cls`."""
    _moved[old] = cls


def declare_moved_callee(old: str, new: str) -> None:
    """Treat records of the function `old` as records of `new`."""
    _moved_callees[old] = new


def is_same_callee(recorded: str, now: str) -> bool:
    """Return whether a recorded function is the function called `now`, possibly moved."""
    seen: set[str] = set()
    while recorded != now and recorded in _moved_callees and recorded not in seen:
        seen.add(recorded)
        recorded = _moved_callees[recorded]
    return recorded == now


def moved_to(module: str, qualname: str) -> type | None:
    """Return the class declared to have moved from that place, or None."""
    return _moved.get((module, qualname))


def first_name(name: list[str]) -> list[str]:
    """Return the oldest declared name of an object with this current name.

    Digests use it, so that the arguments of recorded calls stay equal when their class moves.
    """
    if _moved:
        now = tuple(name)
        for old, cls in _moved.items():
            if (modules.recorded_name(cls.__module__), cls.__qualname__) == now:
                return list(old)
    return name


def find(module: str, qualname: str) -> Any:
    """Return the object `qualname` of `module`; raise FlowError if it does not exist."""
    found = moved_to(module, qualname)
    if found is None:
        found = _follow(load_module(module, qualname), qualname)
    if found is None:
        raise ClassChanged(
            f"A recorded value needs {module}.{qualname}, which does not exist any more.",
            help=f"Restore {qualname} in {module}. If it is a class that was moved or renamed, "
            f'declare it where it is now:\n    kitaru.moved("{module}:{qualname}", '
            f"{qualname.rpartition('.')[2]})",
        )
    return found


def load_module(name: str, qualname: str = "") -> ModuleType:
    """Import the module `name`; raise FlowError if that fails.

    `qualname` is the object that a record needs from it, for the error.
    """
    # Most values need no module, and most flows need only modules that are loaded already.
    from kitaru.wire import importing

    try:
        return importing.load(name)
    except ImportError as error:
        help = "Run the command where the flow's project and its requirements are importable."
        if qualname:
            help += (
                " If the class was moved, or its file renamed, declare it where it is now:\n"
                f'    kitaru.moved("{name}:{qualname}", {qualname.rpartition(".")[2]})'
            )
        raise FlowError(
            f"A recorded value needs the module {name}, which cannot be imported: {error}",
            help=help,
        ) from error


def instance_dict(value: Any) -> dict[str, Any]:
    """Return the object's own attributes without running its attribute code."""
    try:
        state = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return state if type(state) is dict else {}


def _follow(home: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        home = getattr(home, part, None) if part != "<locals>" else None
    return home
