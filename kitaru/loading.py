"""Find the flow of a recorded execution."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.errors import FlowError, KitaruError, NotFound
from kitaru.local_flow import LocalFlow
from kitaru.runtime.journal.exceptions import import_traceback
from kitaru.runtime.steps.modules import import_file
from kitaru.toml_files import project_file, table
from kitaru.wire.importing import check_exit
from kitaru.wire.modules import SCRIPT, script

if TYPE_CHECKING:
    from kitaru.wire.records import ExecutionRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def load_flow(execution: ExecutionRecord) -> LocalFlow[Any, Any]:
    """Import the module that an execution ran, and return its flow.

    A file that is not where it was, because it moved or because this is another machine, is looked
    for in the working directory and in the project around it.

    Code that no file contains is found only in the process that defined it.

    Raises:
        FlowError: the module does not import.
        NotFound: its file is gone, or has no flow of that name any more.
    """
    if execution.module == SCRIPT:
        return _flow_of_script(execution)
    file = _found(execution)
    try:
        module = import_file(file, execution.module)
    except KitaruError:
        raise
    except Exception as error:
        raise not_imported(file, error) from error
    found = _flow_in(vars(module), execution.flow)
    if found is not None:
        return found
    check_exit(module, f"the flow {execution.flow}")
    raise NotFound(
        f"{file} has no flow {execution.flow!r} any more.",
        help=f"If it has another name now, let the flow keep the recorded one: "
        f'@flow(name="{execution.flow}"). Or restore it, or start a new execution.',
    )


def not_imported(file: Path, error: Exception) -> FlowError:
    """Return the error for a file of a flow that raised `error` while it was imported.

    Where a library is missing, its help says how to install it.
    """
    help = import_traceback(error)
    library = _missing_library(error)
    if not library:
        return FlowError(f"{file} does not import: {type(error).__name__}: {error}", help=help)
    named, remedy = _declared(library), "Install it"
    if not named:
        named, remedy = library, f"Install the package that has it; if it is {library}"
    install = f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(named)}"
    return FlowError(
        f"{file} needs {library}, which this Python does not have.",
        help=f"{help}\n{remedy}: {install}",
    )


def _missing_library(error: Exception) -> str:
    """Return the module that an import could not find, or "" for any other error."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not name:
        return ""
    # A module of an installed package, or a name that only Python itself uses.
    return "" if name in sys.modules or find_spec(name) is not None else name


def _declared(library: str) -> str:
    """Return the project's requirement with the name of a module, or ""."""
    project = project_file()
    declared = table(project, "project").get("dependencies", []) if project else []
    for requirement in declared if isinstance(declared, list) else []:
        found = _NAME.match(str(requirement))
        if found and _normal(found[0]) == _normal(library):
            return str(requirement)
    return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_loadable(execution: ExecutionRecord) -> bool:
    """Return whether this process could import the flow of an execution, or defines it."""
    return execution.module != SCRIPT or _flow_here(execution) is not None


def _flow_here(execution: ExecutionRecord) -> LocalFlow[Any, Any] | None:
    main = script()
    return _flow_in(main.namespace, execution.flow) if main.name == SCRIPT else None


def _flow_in(namespace: dict[str, Any], name: str) -> LocalFlow[Any, Any] | None:
    flows = (value for value in namespace.values() if isinstance(value, LocalFlow))
    return next((found for found in flows if found.name == name), None)


def _flow_of_script(execution: ExecutionRecord) -> LocalFlow[Any, Any]:
    found = _flow_here(execution)
    if found is not None:
        return found
    raise NotFound(
        f"The execution {execution.exec_id} runs code that no file contains: {execution.flow} was "
        "typed into a notebook or an interpreter, or read from standard input.",
        help=f"Only a process that defines {execution.flow} can continue it: run the same cells, "
        f"then {execution.flow}.resume({execution.exec_id!r}). Next time, save the code as a file.",
    )


def _found(execution: ExecutionRecord) -> Path:
    recorded = Path(execution.file)
    if recorded.is_file():
        return recorded
    project = project_file()
    roots = [Path.cwd(), *([project.parent] if project else [])]
    # Longest suffix of the path first: flows/review.py before any other review.py.
    for at in range(1, len(recorded.parts) - execution.module.count(".")):
        for root in roots:
            file = root.joinpath(*recorded.parts[at:])
            if file.is_file():
                return file
    raise NotFound(
        f"The execution {execution.exec_id} runs {recorded}, and there is no such file here.",
        help=f"Run the command in the folder that {recorded.name} is in now, or in its project's.",
    )
