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

    Raises SourceError when there is no such flow, several and none was named, or a syntax error;
    FlowError when the module does not import.
    """
    from kitaru.flow import Flow

    module = _import(location)
    flows = {name: value for name, value in vars(module).items() if isinstance(value, Flow)}
    if location.flow in flows:
        return flows[location.flow]
    own = {n: f for n, f in flows.items() if f.function.__module__ == module.__name__}
    if location.flow is None and len(own) == 1:
        return next(iter(own.values()))
    _raise_findings(location)
    what = f"no flow {location.flow!r}" if location.flow else f"{len(own)} flows"
    raise UsageError(f"{location.path} has {what}", help=f"flows here: {', '.join(own) or 'none'}")


def text_inputs(flow: Flow[..., Any]) -> set[str]:
    """Return the names of the inputs annotated as `str`, whose text is never read as a number."""
    hints = flow.function.__annotations__
    return {name for name, hint in hints.items() if hint in (str, "str") and name != "return"}


def _import(location: Location) -> ModuleType:
    from kitaru.runtime.recording.failures import import_traceback
    from kitaru.runtime.steps.modules import import_file

    try:
        return import_file(location.path)
    except KitaruError:
        raise
    except SyntaxError as error:
        if Path(error.filename or "").resolve() == location.path.resolve():
            _raise_findings(location)
        place = f"{error.filename}:{error.lineno}:{error.offset}"
        raise FlowError(f"{place}: {error.msg}") from None
    except Exception as error:
        what = f"{location.path} does not import: {type(error).__name__}: {error}"
        raise FlowError(what, help=import_traceback(error)) from error


def _raise_findings(location: Location) -> None:
    """Raise what the compiler says of the source: with lines and carets, the same as `compile`."""
    from kitaru_compiler import compile_flow

    from kitaru.cli.findings import named_from_here

    with named_from_here(location.path):
        compile_flow(location.path, location.flow)
