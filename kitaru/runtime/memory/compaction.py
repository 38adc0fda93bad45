"""Merge several values of a memory into one text with a model, and record the sources."""

from __future__ import annotations

import json
from typing import Any

from kitaru import hints
from kitaru.errors import MemoryConflict, NotFound, UsageError
from kitaru.runtime.journal.to_json import as_json
from kitaru.runtime.llm import model_calls, models
from kitaru.runtime.llm.models import ModelRequest
from kitaru.runtime.memory.memories import Memory
from kitaru.wire.models import OFFLINE
from kitaru.wire.records import MemoryVersion
from kitaru.wire.structs import Struct, fields_of

INSTRUCTION = (
    "Merge these notes into one text. Keep every fact that still holds, say each once, and where "
    "notes of one key contradict each other let the one with the higher version win. Answer with "
    "the text alone."
)


class Job(Struct):
    """Merge the versions of `key`, or the keys that start with `prefix`, `into` a key."""

    key: str | None
    prefix: str | None
    into: str | None
    instruction: str
    model: str | None

    @property
    def target(self) -> str:
        """The key that receives the merged text as a version."""
        return self.into or self.key or ""

    def arguments(self) -> dict[str, Any]:
        """Return what identifies the job on a replay."""
        return fields_of(self)

    def check(self) -> None:
        """Raise UsageError unless the job names its sources and its target key."""
        if (self.key is None) == (self.prefix is None) or not self.target:
            raise UsageError(
                "What is to be compacted is one key, or a prefix into a key.",
                help='memory.compact("notes"), or memory.compact(prefix="notes/", into="notes")',
            )


def run(memory: Memory, job: Job) -> int:
    """Run the job and return the number of the version with the merged text.

    Raises:
        NotFound: the memory has no such values.
        UsageError: no model is configured.
        MemoryConflict: the target was written during the model call; nothing was changed.
    """
    _check_model(job.model)
    newest = memory.find(job.target)
    sources = _sources(memory, job)
    if not sources:
        raise NotFound(
            f"Nothing is remembered in {memory.scope} under {job.key or job.prefix}.",
            help="See what there is: "
            + hints.command(memory.store, "memory", "list", "--scope", str(memory.scope)),
        )
    answer, facts = model_calls.ask(
        ModelRequest(_prompt(memory, sources, job.instruction), job.model)
    )
    compacted = {
        "sources": [[source.key, source.number] for source in sources],
        "instruction": job.instruction,
        "model": facts["resolved"],
        "tokens": facts["tokens"],
        "cost": facts["cost"],
    }
    expect = newest.number if newest is not None else 0
    written = memory.set(job.target, answer.text, expect, compacted)
    for source in sources:
        if source.key != job.target:
            _forget(memory, source)
    return written


def _check_model(model: str | None) -> None:
    resolved = models.resolve(model)
    if resolved.model == OFFLINE:
        raise UsageError(
            f'Compaction needs a model, and none is configured for "{resolved.name}".',
            help=f'export KITARU_MODELS=\'{{"{resolved.name}": "openai/gpt-4o-mini"}}\'',
        )


def _sources(memory: Memory, job: Job) -> list[MemoryVersion]:
    if job.key is not None:
        versions = (memory.find(job.key, past.version) for past in memory.history(job.key))
    else:
        versions = (memory.find(key) for key in memory.list(job.prefix or ""))
    return [found for found in versions if found is not None and found.value is not None]


def _prompt(memory: Memory, sources: list[MemoryVersion], instruction: str) -> str:
    # Notes are inserted as JSON, so that no note can imitate a heading of the prompt.
    notes = [
        f"{source.key}, version {source.number}, {source.at}:\n"
        + json.dumps(as_json(memory.document(source)), ensure_ascii=False)
        for source in sources
    ]
    return "\n\n".join([instruction, *notes])


def _forget(memory: Memory, source: MemoryVersion) -> None:
    """Delete a merged version; versions written since then remain."""
    try:
        memory.at_once().delete(source.key, source.number)
    except MemoryConflict:
        return
