"""Run a flow from a file in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kitaru.errors import FlowError, KitaruError, UsageError
from kitaru.ops.flow_ref import Location

if TYPE_CHECKING:
    from kitaru.handle import Handle
    from kitaru.local_flow import LocalFlow
    from kitaru.stores.base import Store


def run(
    flow: LocalFlow[..., Any],
    inputs: Mapping[str, Any],
    *,
    store: str | Store | None = None,
    key: str | None = None,
    cache: bool | None = None,
    retries: int | None = None,
    tags: Mapping[str, str | float] | None = None,
) -> Handle[Any]:
    """Start an execution of a flow with JSON inputs by name, and return at once.

    Args:
        store: the store of the execution; default as configured.
        key: what identifies the start; see `LocalFlow.options`.
        cache: whether to reuse results of other executions; default as decorated.
        retries: default number of retries for checkpoints that set none.
        tags: tags of the execution by name.

    Raises:
        InputError: an input is missing, unknown or does not fit its annotation.
        StateError: the key has started an execution with other inputs.

    Example:
        run(load_flow(locate("review.py")), {"topic": "kayaks"}).wait()
    """
    runner = flow.options(store=store, key=key, cache=cache, retries=retries, tags=tags)
    return runner.start(inputs)


def load_flow(location: Location) -> LocalFlow[..., Any]:
    """Import the module of a flow reference and return the flow.

    Raises SourceError if the flow does not exist, is ambiguous, or has a syntax error. Raises
    FlowError if the module cannot be imported.
    """
    from kitaru.local_flow import LocalFlow
    from kitaru.wire.importing import check_exit

    module = _import(location)
    flows = {name: value for name, value in vars(module).items() if isinstance(value, LocalFlow)}
    if location.flow in flows:
        return flows[location.flow]
    own = {n: f for n, f in flows.items() if f.function.__module__ == module.__name__}
    if location.flow is None and len(own) == 1:
        return next(iter(own.values()))
    check_exit(module, f"the flow {location.flow}" if location.flow else "a flow")
    _raise_findings(location)
    what = f"no flow {location.flow!r}" if location.flow else f"{len(own)} flows"
    raise UsageError(f"{location.path} has {what}", help=f"flows here: {', '.join(own) or 'none'}")


def text_inputs(flow: LocalFlow[..., Any]) -> set[str]:
    """Return the names of inputs annotated as `str`, whose text is never parsed as a number."""
    hints = flow.function.__annotations__
    return {name for name, hint in hints.items() if hint in (str, "str") and name != "return"}


def _import(location: Location) -> ModuleType:
    from kitaru.loading import not_imported
    from kitaru.runtime.steps.modules import import_file
    from kitaru.wire.modules import place_of

    try:
        file = location.path.resolve()
        return import_file(file, place_of(file, location.module)[1])
    except KitaruError:
        raise
    except SyntaxError as error:
        if Path(error.filename or "").resolve() == location.path.resolve():
            _raise_findings(location)
        place = f"{error.filename}:{error.lineno}:{error.offset}"
        raise FlowError(f"{place}: {error.msg}") from None
    except Exception as error:
        raise not_imported(location.path, error) from error


def _raise_findings(location: Location) -> None:
    """Raise the compiler's findings in the source, formatted as by `compile`."""
    from kitaru_compiler import compile_flow

    from kitaru.ops.findings import named_from_here

    with named_from_here(location):
        compile_flow(location.path, location.flow, module=location.module)
