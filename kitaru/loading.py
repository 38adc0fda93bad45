"""Decides how the flow of a recorded execution is found again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.errors import FlowError, KitaruError, NotFound
from kitaru.flow import Flow
from kitaru.runtime.recording.failures import import_traceback
from kitaru.runtime.steps.modules import import_file
from kitaru.toml_files import project_file

if TYPE_CHECKING:
    from kitaru.wire.records import ExecutionRecord


def load_flow(execution: ExecutionRecord) -> Flow[Any, Any]:
    """Import the module that an execution ran, and return its flow.

    A file that is not where it was, because it moved or because this is another machine, is looked
    for in the working directory and in the project around it.

    Raises:
        FlowError: the module does not import.
        NotFound: its file is gone, or has no flow of that name any more.
    """
    file = _found(execution)
    try:
        module = import_file(file, execution.module)
    except KitaruError:
        raise
    except Exception as error:
        raise FlowError(
            f"{file} cannot be imported: {type(error).__name__}: {error}",
            help=import_traceback(error),
        ) from error
    for value in vars(module).values():
        if isinstance(value, Flow) and value.name == execution.flow:
            return value
    raise NotFound(
        f"{file} has no flow {execution.flow!r} any more.",
        help="Restore it under that name, or start a new execution.",
    )


def _found(execution: ExecutionRecord) -> Path:
    recorded = Path(execution.file)
    if recorded.is_file():
        return recorded
    project = project_file()
    roots = [Path.cwd(), *([project.parent] if project else [])]
    # The longest end of its path first: flows/review.py before any other review.py.
    for at in range(1, len(recorded.parts) - execution.module.count(".")):
        for root in roots:
            file = root.joinpath(*recorded.parts[at:])
            if file.is_file():
                return file
    raise NotFound(
        f"The execution {execution.exec_id} runs {recorded}, and there is no such file here.",
        help=f"Run the command in the folder that {recorded.name} is in now, or in its project's.",
    )
