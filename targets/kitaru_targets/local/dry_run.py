"""Run the process of a `process.json` as a step of a dry run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru.errors import InputError
from kitaru.stores import open_store
from kitaru_targets.common import parameters
from kitaru_targets.dry_run.process import Machine, Start
from kitaru_targets.local import bundles, submit

_STATUS = "status"


def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
    """Run a document with the given inputs, as one process of `machine`."""
    document = json.loads(text)
    unknown = sorted(set(given) - set(document["inputs"]))
    if unknown:
        known = [*document["inputs"]]
        raise InputError(f"The document: unknown input {unknown[0]!r}.", help=f"it takes {known}")
    store = open_store(str(given[parameters.STORE]))
    try:
        held = bundles.unpacked(store, document["bundle"])
    finally:
        store.close()
    words = submit.command(document, held.folder, given, run=run_id)
    step = words[words.index("--step") + 1]
    variables = {"PYTHONPATH": str(held.folder), "KITARU_BUNDLE": document["bundle"]}
    with held:
        machine.run(
            Start(
                task=step,
                step=step,
                attempt=1,
                command=lambda out: [sys.executable, *words, "--status-file", str(out / _STATUS)],
                environment={**document["environment"], **variables},
                read=_status,
                files=held.files,
            )
        )


def _status(folder: Path) -> Mapping[str, str] | None:
    file = folder / _STATUS
    return {"status": file.read_text(encoding="utf-8")} if file.is_file() else None
