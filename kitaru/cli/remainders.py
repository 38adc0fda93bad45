"""Decides what is written for an execution that goes on elsewhere: the pipeline of what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.cli.compilation import Compiled, show, to_json
from kitaru.cli.output import Output, label
from kitaru.config import setting
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.runtime.recording.journal import Journal


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rest of an execution is to run, as the command line says it."""

    target: str
    directory: Path
    image: str | None


def check_stored(journal: Journal) -> None:
    """Raise what writing the rest of an execution would, before anything is done."""
    from kitaru_targets.remainder import kept

    if journal.execution.mode == "local":
        raise UsageError(
            f"The execution {journal.exec_id} runs on this machine; it has no pipeline.",
            help="Leave --target out.",
        )
    kept(journal)


def submit_rest(journal: Journal, sets: Mapping[str, str], output: Output) -> int:
    """Hand what is left of an execution over to the service it began on; return the exit code.

    Raises what `kitaru_targets.deployed.go_on` raises, and UsageError for one that ran here.
    """
    from kitaru_targets import deployed

    execution = journal.execution
    if execution.mode != "deployed":
        raise UsageError(
            f"The execution {journal.exec_id} runs on this machine, not on a service.",
            help="Leave --submit out.",
        )
    chosen = {**service_options(execution.target), **sets}
    run = deployed.go_on(journal, image=setting("image").value, options=chosen)
    if output.as_json:
        document = {"exec_id": journal.exec_id, "target": execution.target}
        output.document({**document, "run": run.run_id, "url": run.url})
        return 0
    output.say(f"{label('started', 'green')}  the rest of {execution.flow}  {journal.exec_id}")
    output.say(f"run      {run.run_id} on {execution.target}")
    return 0


def service_options(target: str) -> dict[str, str]:
    """Return what the settings say of a target's service."""
    from kitaru_targets import registry

    from kitaru.cli.telling import connection

    return {**(connection(registry.get(target)) or {}), **setting("submit").value}


def write_rest(journal: Journal, place: Place, output: Output) -> int:
    """Write the pipeline that goes on with an execution, say where, and return the exit code.

    Only the store is read: the code is the one that the execution began with. Raises StateError
    when the store does not hold it, UsageError for an unknown target.
    """
    from kitaru_targets import registry
    from kitaru_targets.remainder import stored

    target = registry.get(place.target)
    folder = place.directory / journal.execution.flow / f"{target.name}-{journal.exec_id}"
    image = setting("image", argument=place.image).value
    build = stored(journal, target, folder, image=image)
    compiled = Compiled(build.plan, (), target, build)
    if output.as_json:
        output.document({"exec_id": journal.exec_id, **to_json(compiled)})
        return 0
    show(compiled, output)
    output.say(f"deploy   see {build.directory / 'DEPLOY.md'}")
    return 0
