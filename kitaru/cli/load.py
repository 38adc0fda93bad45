"""Decides how a flow's module is imported to run it here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kitaru.cli.locate import Location
from kitaru.errors import FlowError, KitaruError, UsageError

if TYPE_CHECKING:
    from kitaru.flow import Flow


def load_flow(location: Location) -> Flow[..., Any]:
    """Import the module and return the flow it means.

    Raises UsageError when there is no such flow or several and none was named, FlowError when the
    module does not import.
    """
    from kitaru.flow import Flow

    module = _import(location.path)
    flows = {n: v for n, v in vars(module).items() if isinstance(v, Flow)}
    own = {n: v for n, v in flows.items() if v.function.__module__ == module.__name__}
    if location.flow is not None:
        if location.flow in flows:
            return flows[location.flow]
        known = f"it has {', '.join(own)}" if own else "it has no flow at all"
        raise UsageError(f"{location.path} has no flow {location.flow!r}: {known}")
    if len(own) == 1:
        return next(iter(own.values()))
    if not own:
        raise UsageError(f"{location.path} has no flow", help="decorate a function with @flow")
    names = " or ".join(f"{location.path}:{name}" for name in own)
    raise UsageError(f"{location.path} has {len(own)} flows", help=f"name one: {names}")


def text_inputs(flow: Flow[..., Any]) -> set[str]:
    """Return the names of the inputs annotated as `str`, whose text is never read as a number."""
    hints = flow.function.__annotations__
    return {name for name, hint in hints.items() if hint in (str, "str") and name != "return"}


def _import(path: Path) -> ModuleType:
    from kitaru.runtime.modules import import_file

    try:
        return import_file(path)
    except KitaruError:
        raise
    except SyntaxError as error:
        place = f"{error.filename or path}:{error.lineno or 1}:{error.offset or 1}"
        raise FlowError(f"{place}: {error.msg}", help=f"kitaru check {path}") from None
    except Exception as error:
        from kitaru.runtime.failures import user_traceback

        what = f"{path} does not import: {type(error).__name__}: {error}"
        raise FlowError(what, help=user_traceback(error).rstrip()) from error
