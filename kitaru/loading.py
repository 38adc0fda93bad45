"""Decides how the flow of a recorded execution is found again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.errors import FlowError, KitaruError, NotFound
from kitaru.flow import Flow
from kitaru.runtime.recording.failures import user_traceback
from kitaru.runtime.steps.modules import import_file

if TYPE_CHECKING:
    from kitaru.wire.records import ExecutionRecord


def load_flow(execution: ExecutionRecord) -> Flow[Any, Any]:
    """Import the module that an execution ran, and return its flow.

    Raises:
        UsageError: the file is gone.
        FlowError: the module does not import.
        NotFound: it has no flow of that name any more.
    """
    file = Path(execution.file)
    try:
        module = import_file(file, execution.module)
    except KitaruError:
        raise
    except Exception as error:
        raise FlowError(
            f"{file} cannot be imported: {type(error).__name__}: {error}",
            help=user_traceback(error).rstrip(),
        ) from error
    for value in vars(module).values():
        if isinstance(value, Flow) and value.name == execution.flow:
            return value
    raise NotFound(
        f"{file} has no flow {execution.flow!r} any more.",
        help="Restore it under that name, or start a new execution.",
    )
