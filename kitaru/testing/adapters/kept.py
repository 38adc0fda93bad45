"""Records that a version of a harness wrote, kept in a file for later versions to read.

The file contains the objects of a store with an execution that died before its last request, so
that a process which resumes it reads all records and makes one request.
"""

from __future__ import annotations

import base64
import json
from importlib.metadata import packages_distributions, version
from pathlib import Path
from tempfile import TemporaryDirectory

from kitaru.errors import UsageError
from kitaru.stores import open_store
from kitaru.testing.adapters.processes import Processes

CONVERSATION, EXEC_ID = "alone", "conformance"


def keep(harness: str, path: Path) -> None:
    """Write the records of the installed version of a harness to a file."""
    processes = Processes(harness)
    try:
        with TemporaryDirectory() as home:
            calls = 0
            for name in ("undisturbed", "killed"):
                folder = Path(home) / name
                folder.mkdir()
                store = f"sqlite:{folder}/k.db"
                processes.run(
                    folder, conversation=CONVERSATION, store=store, exec_id=EXEC_ID, in_flow=True,
                    blocking=False, attempt=0, seed="", kill=[calls, "begin"] if calls else None,
                )  # fmt: skip
                calls = len((folder / "calls").read_text().splitlines())
            opened = open_store(store)
            objects = {
                key: base64.b64encode(opened.get(key) or b"").decode() for key in opened.list("")
            }
    finally:
        processes.close()
    document = {"version": _version(harness), "objects": objects}
    path.write_text(json.dumps(document, indent=0, sort_keys=True) + "\n")


def read_kept(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the name and version of the harness that wrote kept records, and their objects.

    Raises:
        UsageError: the file is not what `keep` writes.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        objects = {
            str(key): base64.b64decode(body, validate=True)
            for key, body in document["objects"].items()
        }
        return str(document["version"]), objects
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} contains no kept records: {type(error).__name__}: {error}.",
            help="Restore the file, or write it in the environment of that version with "
            f"`python -m kitaru.testing.adapters MODULE:CLASS {path.name}`.",
        ) from error


def restore(path: Path, url: str) -> None:
    """Put kept records into a store."""
    opened = open_store(url)
    for key, body in read_kept(path)[1].items():
        opened.create(key, body)


def _version(harness: str) -> str:
    from importlib import import_module

    module, _, name = harness.partition(":")
    package = getattr(import_module(module), name).packages[0].partition(".")
    found = packages_distributions()[package[0]][0]
    return f"{found} {version(found)}"
