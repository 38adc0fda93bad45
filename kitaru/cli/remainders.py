"""Decides what is written for an execution that goes on elsewhere: the pipeline of what is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.cli.compilation import Compiled, show, to_json
from kitaru.cli.output import Output
from kitaru.config import setting
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.runtime.journal import Journal


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
