"""Decides what is left to run of an execution: a build that starts where control stands."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from kitaru_compiler.residual import residual

from kitaru.runtime.journal import Journal
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import Plan

from . import bundle
from .build import Build, write


def remainder(build: Build, journal: Journal, directory: Path) -> Build:
    """Write to `directory` the build that goes on with an execution of `build`, and return it.

    Finished steps are gone from its pipeline, and so are the flow's inputs. Returns `build` itself
    where its own document has to run again: no step handed on yet, the journal is of another
    compilation, or the plan is inside an image. Raises what `kitaru_targets.build.write` does.

        remainder(read(Path("build/review/vertex")), journal, Path("build/review/rest"))
    """
    digest = sha256((build.directory / "plan.json").read_bytes())
    block = standing(build.plan, journal)
    if block is None or build.delivery == "image" or journal.execution.plan_digest != digest:
        return build
    lock = json.loads((build.directory / "lock.json").read_text(encoding="utf-8"))
    plan = residual(build.plan, block, digest).replace(parameters=())
    steps = (build.directory / "steps.py").read_text(encoding="utf-8")
    left = _Left(plan, steps, _Sources((build.directory / "bundle.zip").read_bytes()))
    return write(
        left,
        build.target,
        directory,
        image=lock["image"],
        store=lock["store"],
        delivery=build.delivery,
        execution=journal.exec_id,
    )


def standing(plan: Plan, journal: Journal) -> str | None:
    """Return the last block that has been handed a frame, None when the first step hands on yet.

    What is found only spares containers: every step asks its own guard.
    """
    held = set(journal.store.list(keys.frame(journal.exec_id, "")))
    for block in reversed(plan.blocks):
        if keys.frame(journal.exec_id, block.name) not in held:
            continue
        if "from" in (journal.frame_pointer(block.name) or {}):
            return block.name
    return None


@dataclass(frozen=True)
class _Left:
    plan: Plan
    steps_py: str
    project: _Sources


@dataclass(frozen=True)
class _Sources:
    """The project's files, out of the bundle that they travelled in."""

    data: bytes

    def closure(self, module: str) -> tuple[dict[str, bytes], frozenset[str]]:
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            names = [n for n in archive.namelist() if not n.startswith(bundle.RESERVED)]
            return {name: archive.read(name) for name in names}, frozenset()
