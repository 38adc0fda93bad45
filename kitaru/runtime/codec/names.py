"""Decides which objects are recorded by name: those that a module holds under that very name."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from kitaru.errors import FlowError
from kitaru.wire import modules

_BY_NAME = (type, FunctionType, BuiltinFunctionType)


def name_of(value: Any) -> tuple[str, str] | None:
    """Return (module, qualified name) under which `value` itself is found, or None."""
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


def find(module: str, qualname: str) -> Any:
    """Return what `module` calls `qualname`; raises FlowError when it is not there."""
    found = _follow(load_module(module), qualname)
    if found is None:
        raise FlowError(
            f"A recorded value needs {module}.{qualname}, which is not there any more.",
            help=f"Restore {qualname} in {module}, or start a new execution.",
        )
    return found


def load_module(name: str) -> ModuleType:
    """Return the module `name`; raises FlowError when it cannot be imported."""
    try:
        return modules.load(name)
    except ImportError as error:
        raise FlowError(
            f"A recorded value needs the module {name}, which cannot be imported: {error}",
            help="Run the command where the flow's project and its requirements are importable.",
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
