"""Export an execution as one JSON document, and import it into another store.

The document contains every object of the execution, and what it refers to: values of other
executions, such as cached results, and the recorded file of its flow. So all commands that read an
execution work on the imported one. For people, it also contains what
`kitaru executions get --json` prints.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kitaru.errors import RecordCorrupt, RecordTooNew, StateError, UsageError
from kitaru.ops.show import show
from kitaru.ops.verify import checked, needs
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.base import check_key, existing
from kitaru.version import VERSION
from kitaru.wire import keys
from kitaru.wire.ids import check_execution_id

if TYPE_CHECKING:
    from kitaru.stores.base import Store

MAX_EXPORT_BYTES = 256 * 1024 * 1024
"""Maximum size of the objects in an export; a store's backup has no limit."""

_FORMAT = 1
# Values of other executions, and the file of the flow.
_SHARED = re.compile(r"(?:x/[^/]+/blob|source)/[0-9a-f]{64}$")
# Markers of processes, which do not exist where the execution is imported, and copies of values.
_PASSING = ("process", "attending", "beat", "download")


def export(store: Store, exec_id: str) -> dict[str, Any]:
    """Return an execution as a JSON document.

    The objects are as they are stored: secrets were masked when they were recorded. A running
    execution is exported as it is now.

    Raises:
        NotFound: the execution does not exist.
        RecordCorrupt: an object of the execution is missing or damaged.
        StateError: the execution is larger than `MAX_EXPORT_BYTES`.

    Example:
        Path("run.json").write_text(json.dumps(export(store, exec_id)))
    """
    shown = show(store, exec_id).to_dict()
    objects: dict[str, bytes] = {}
    wanted: set[str] = set()
    size = 0

    def take(found: Iterable[tuple[str, bytes]]) -> None:
        nonlocal size
        for key, data in found:
            record, _ = checked(key, data)
            wanted.update(needs(store, key, record))
            objects[key] = data
            size += len(data)
            if size > MAX_EXPORT_BYTES:
                raise StateError(
                    f"The execution {exec_id} has more than {MAX_EXPORT_BYTES:,} bytes.",
                    help="Copy its store instead: kitaru store backup sqlite:PATH",
                )

    take(_objects(store, exec_id, shown["started_at"]))
    # Values that it refers to in other executions, and sources.
    take(existing(store, sorted(wanted - objects.keys())))
    if lost := wanted - objects.keys():
        raise RecordCorrupt(
            f"The execution {exec_id} refers to {min(lost)}, which is missing.", next_step="restore"
        )
    return {
        "format": _FORMAT,
        "kitaru_version": VERSION,
        "execution": shown,
        "objects": {key: _text(objects[key]) for key in sorted(objects)},
    }


def import_execution(store: Store, document: Mapping[str, Any]) -> str:
    """Create an exported execution in a store, with its id; return the id.

    It is complete when its own record exists, which is written last. Importing it again changes
    nothing.

    Raises:
        UsageError: the document is not an export.
        RecordTooNew: a newer release made it.
        RecordCorrupt: an object of it was changed.
        StateError: the store contains another execution with this id.

    Example:
        import_execution(store, json.loads(Path("run.json").read_text()))
    """
    exec_id, objects = _read(document)
    record = keys.execution(exec_id)
    for key, data in objects.items():
        checked(key, data)
    held = dict(existing(store, objects))
    for key, data in held.items():
        if data != objects[key]:
            raise _another(store, exec_id)
    absent = [(key, data) for key, data in objects.items() if key not in held and key != record]
    _create(store, exec_id, absent)
    _create(store, exec_id, [(record, objects[record])])
    Journal.open(store, exec_id).list_waits()
    return exec_id


def _create(store: Store, exec_id: str, objects: Sequence[tuple[str, bytes]]) -> None:
    """Create objects; raise StateError if another process has just created a different one."""
    created = store.create_all(objects) if objects else []
    for (key, data), new in zip(objects, created, strict=True):
        if not new and create_or_read(store, key, data) != data:
            raise _another(store, exec_id)


def _another(store: Store, exec_id: str) -> StateError:
    return StateError(
        f"The store {store.url} contains another execution {exec_id}.",
        help="Import it into another store: --store sqlite:PATH",
    )


def _objects(store: Store, exec_id: str, started_at: str) -> Iterator[tuple[str, bytes]]:
    home = keys.home(exec_id)
    passing = tuple(f"{home}{kind}/" for kind in _PASSING)
    found = [key for key in store.list(home) if not key.startswith(passing)]
    yield from existing(store, [*found, *store.list(keys.indexed(started_at, exec_id))])


def _text(data: bytes) -> Any:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _read(document: Any) -> tuple[str, dict[str, bytes]]:
    """Return the id and the objects of an export; raise the errors of `import_execution`."""
    if not isinstance(document, Mapping) or "format" not in document:
        raise _no_export("it is no JSON object with a format.")
    if document["format"] != _FORMAT:
        raise RecordTooNew(
            f"The export has format {document['format']!r}; this release reads {_FORMAT}."
        )
    try:
        exec_id = check_execution_id(document["execution"]["exec_id"])
        objects = {check_key(key): _bytes(text) for key, text in document["objects"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise _no_export(f"{type(error).__name__}: {error}.") from None
    except UsageError as error:
        raise _no_export(error.message) from None
    for key in objects:
        if key.startswith(keys.downloads(exec_id)):
            raise _no_export(f"{key} is a copy, which no export contains.")
        if not (key.startswith(keys.home(exec_id)) or _SHARED.match(key) or _is_hint(key, exec_id)):
            raise _no_export(f"{key} is no object of {exec_id}.")
    if keys.execution(exec_id) not in objects:
        raise _no_export(f"the record of {exec_id} is missing.")
    return exec_id, objects


def _is_hint(key: str, exec_id: str) -> bool:
    return key.startswith(keys.INDEX) and key.split("/")[2:3] == [exec_id]


def _bytes(text: Any) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8")
    return base64.b64decode(text["base64"], validate=True)


def _no_export(reason: str) -> UsageError:
    return UsageError(
        f"The document is no exported execution: {reason}",
        help="Make one: kitaru executions export EXEC --output run.json",
    )
