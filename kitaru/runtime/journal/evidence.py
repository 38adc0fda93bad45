"""The evidence of a question: recorded values that a person needs in order to answer it.

`kitaru.wait(evidence={"Draft": text})` shows `text` beside the question. If the execution has
recorded the value, as a result or an artifact, the question only refers to it by its digest. Any
other value is stored with the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kitaru.errors import RecordCorrupt, UsageError
from kitaru.runtime import codec
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.limits import MAX_NAME_CHARACTERS
from kitaru.wire.records import StoredValue, WaitRequest, stored_values
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import replace

Entries = tuple[dict[str, Any], ...]
_Maker = tuple[int, str, StoredValue]


def encoded(evidence: Mapping[str, Any] | None) -> Entries:
    """Return the evidence of a question with its values encoded as they are now.

    Raises:
        UsageError: a title is not a short string.
        ValueNotEncodable: a value cannot be recorded.
    """
    entries = []
    for title, value in (evidence or {}).items():
        if not isinstance(title, str) or not 0 < len(title) <= MAX_NAME_CHARACTERS:
            raise UsageError(
                f"{title!r} is not a valid title of evidence.",
                help=f"Use a string of 1 to {MAX_NAME_CHARACTERS} characters.",
            )
        where, allowed = f"evidence[{title!r}]", codec.came_pickled
        document = codec.encode(value, where=where, may_pickle=allowed, parts=True)
        type = value.__class__.__name__
        entries.append({"name": redacted(title), "type": type, "document": document})
    return tuple(entries)


def recorded(journal: Journal, entries: Entries) -> Entries:
    """Return the entries of `encoded` as a question records them.

    Each becomes `{"name", "invocation", "value"}`. With an invocation, the value has only a digest.
    """
    if not entries:
        return ()
    digests = [blobs.digest_of(entry["document"]) for entry in entries]
    makers = _makers(journal, {*digests})
    return tuple(
        _entry(journal, entry, makers.get(digest))
        for entry, digest in zip(entries, digests, strict=True)
    )


def values(journal: Journal, request: WaitRequest) -> Iterator[tuple[str, StoredValue]]:
    """Yield the title of each piece of evidence with the stored value that it refers to."""
    for entry in request.evidence:
        value: StoredValue = entry["value"]
        if entry["invocation"]:
            record = journal.invocation(entry["invocation"])
            held = [] if record is None else stored_values(record)
            found = next((one for one in held if one.digest == value.digest), None)
            if found is None:
                raise RecordCorrupt(
                    f'The evidence "{entry["name"]}" of the wait "{request.name}" is missing in '
                    f"{entry['invocation']} of execution {journal.exec_id}."
                )
            value = found
        yield entry["name"], value


def shown(request: WaitRequest) -> list[dict[str, Any]]:
    """Return the evidence of a question as JSON, each with the name of its artifact."""
    return [
        {
            "name": entry["name"],
            "invocation": entry["invocation"],
            "type": entry["value"].type,
            "size": entry["value"].size,
            "digest": entry["value"].digest,
            "artifact": f"{request.name}/evidence/{number}",
        }
        for number, entry in enumerate(request.evidence, 1)
    ]


def _makers(journal: Journal, digests: set[str]) -> dict[str, _Maker]:
    """Return, by digest, the last invocation whose result or artifact has that content."""
    found: dict[str, _Maker] = {}
    for fields in journal.glances():
        for held in (fields["value"], *(kept["value"] for kept in fields["artifacts"])):
            value = None if held is None else StoredValue(**held["$stored"])
            if value is not None and value.digest in digests:
                maker = fields["position"], fields["id"], value
                found[value.digest] = max(found.get(value.digest, maker), maker, key=_order)
    return found


def _order(maker: _Maker) -> tuple[int, str]:
    return maker[:2]


def _entry(journal: Journal, entry: dict[str, Any], maker: _Maker | None) -> dict[str, Any]:
    if maker is None:
        value = journal.store_document(entry["document"], entry["type"])
        return {"name": entry["name"], "invocation": "", "value": value}
    _, id, held = maker
    value = replace(held, data=None, blob=None, home="", outside=0)
    return {"name": entry["name"], "invocation": id, "value": value}
