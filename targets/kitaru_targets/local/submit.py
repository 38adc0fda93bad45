"""Start a process on this machine that runs a deployed flow.

Only the store is read. The bundle is unpacked once into a folder of the user's cache (see
`bundles`). A folder whose files differ from the bundle is replaced. The bundle contains the
project's code, the plan and Kitaru's own runtime, so a version runs the same code wherever its
store is reachable. Installed packages are not bundled. A package that the flow needs and this
Python lacks is an error. Another version of a package is a note.

The process has no terminal and outlives its starter. It ends when the execution ends or waits. Its
working directory is that of its starter, but is not on its import path.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.journal import rounds
from kitaru.stores import Store, open_store
from kitaru.wire import keys
from kitaru_targets.base import Submitted
from kitaru_targets.common import parameters
from kitaru_targets.common.options import check_run
from kitaru_targets.local.bundles import Unpacked, unpacked
from kitaru_targets.local.emit import FOLDER
from kitaru_targets.local.process import Process
from kitaru_targets.local.validate import parsed

_OPTIONS = frozenset({"python"})
_LOOK_SECONDS = 0.02
# Variables for the steps of a dry run or a container, which a process here must not inherit.
_LEFT_OUT = frozenset(
    {"KITARU_MODE", "KITARU_BUNDLE", rounds.VARIABLE, "PYTHONHOME", "PYTHONSAFEPATH"}
)


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a process for the document at path `document`, and return when the execution exists.

    Options: `python`, the interpreter (default: the interpreter of this process).

    Raises:
        UsageError: an option is unknown.
        EnvironmentFailure: the store lacks the bundle, or this Python lacks a package.
        FlowError: the process ended before it recorded anything.
    """
    check_run("local", options, _OPTIONS)
    content = parsed(Path(document).read_bytes(), document)
    return start(content, parameters, options.get("python", ""))


def start(
    document: Mapping[str, Any], given: Mapping[str, Any], python: str = "", round: int = 0
) -> Submitted:
    """Start the process of a document for a round of its execution, 0 for any; see `submit`."""
    python = python or sys.executable
    if round:
        variables = {**document["environment"], rounds.VARIABLE: str(round)}
        document = {**document, "environment": variables}
    store = open_store(str(given[parameters.STORE]))
    exec_id = str(given[parameters.EXECUTION])
    try:
        held, notes = prepared(document, store, python)
        key = keys.execution(exec_id)
        more = ["--existing"] if store.get(key) is not None else []
        with held:
            process = run(document, held.folder, given, *more, python=python, files=held.files)
        while not more and store.get(key) is None:
            if process.popen.poll() is not None and store.get(key) is None:
                raise process.failure()
            time.sleep(_LOOK_SECONDS)
    finally:
        store.close()
    place = f"process {process.popen.pid} on {socket.gethostname()}"
    return Submitted(place, "", notes=notes, process=process)


def prepared(
    document: Mapping[str, Any], store: Store, python: str = ""
) -> tuple[Unpacked, tuple[str, ...]]:
    """Return the folder of a document's bundle, and notes about packages of other versions.

    Raises EnvironmentFailure if the store lacks the bundle, or this Python lacks a package.
    """
    is_own = python in ("", sys.executable)
    notes = tuple(_differences(document["requirements"], store)) if is_own else ()
    return unpacked(store, document["bundle"]), notes


def run(
    document: Mapping[str, Any],
    folder: Path,
    given: Mapping[str, Any],
    *more: str,
    python: str = sys.executable,
    files: Sequence[int] = (),
) -> Process:
    """Start the process of a document whose bundle is in `folder`.

    `more` are further arguments, `files` the open files that it inherits.
    """
    words = command(document, folder, given, run=str(given[parameters.EXECUTION]))
    return spawn([python, *words, *more], environment(document, folder), files)


def command(
    document: Mapping[str, Any], folder: Path, given: Mapping[str, Any], *, run: str
) -> list[str]:
    """Return Python's arguments to run a document whose bundle is in `folder`."""
    declared = document["inputs"]
    known = {name: value["default"] for name, value in declared.items() if "default" in value}
    values = {name: parameters.as_text(value) for name, value in {**known, **given}.items()}
    execution, store = values.pop(parameters.EXECUTION), values.pop(parameters.STORE)
    stored = values.pop(parameters.INPUTS, "")
    # Without -P the working directory would come first on the import path.
    words = ["-P", *(part.replace(FOLDER, str(folder)) for part in document["command"])]
    words += ["--store", store, "--execution", execution or run, "--run", run]
    words += ["--inputs-key", stored] if stored else []
    return [*words, *(f"--input={name}={text}" for name, text in sorted(values.items()))]


def environment(document: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the variables of the process: those of this process, overridden by the document's."""
    here = inherited()
    path = os.pathsep.join([str(folder), *filter(None, [here.get("PYTHONPATH", "")])])
    own = {"PYTHONPATH": path, "KITARU_BUNDLE": document["bundle"]}
    return {**here, **document["environment"], **own}


def inherited() -> dict[str, str]:
    """Return the variables of this process that a process of a flow inherits."""
    return {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}


def spawn(words: Sequence[str], variables: Mapping[str, str], files: Sequence[int] = ()) -> Process:
    """Start a process without a terminal, which outlives this one."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
    try:
        popen = subprocess.Popen(
            words,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=files,
        )
    except OSError as error:
        log.close()
        raise EnvironmentFailure(f"{words[0]} cannot be started: {error}") from error
    return Process(popen, log)


def _differences(pins: Sequence[str], store: Store) -> Iterator[str]:
    """Yield a note for each package of another version; raise if a package is missing."""
    missing = []
    for pin in pins:
        name, _, version = pin.partition("==")
        name = re.split(r"[\[;\s]", name)[0]
        if name == "obstore" and store.url.startswith("sqlite:"):
            continue
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(pin)
            continue
        if found != version:
            yield f"{name} {found} is installed; the flow was deployed with {version}"
    if missing:
        raise EnvironmentFailure(
            f"The flow needs {', '.join(missing)}, which this Python does not have.",
            help=f"{sys.executable} -m pip install {' '.join(map(repr, missing))}\nOr name another "
            "interpreter: --set python=PATH",
        )
