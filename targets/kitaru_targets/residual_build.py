"""Build the residual pipeline of an execution, which starts at the current block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kitaru_compiler.frontend.lock_files import Locked
from kitaru_compiler.residual import residual

from kitaru.errors import StateError
from kitaru.runtime.engine.promised_calls import items
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.steps.control_flow import scope
from kitaru.runtime.steps.frames import promised_in
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import Plan
from kitaru_targets import bundle, installs, plans
from kitaru_targets.base import Target
from kitaru_targets.build import Build, write


def remainder(build: Build, journal: Journal, directory: Path) -> Build:
    """Write the residual build of an execution of `build` to `directory`, and return it.

    Its pipeline has no finished steps and no inputs. Returns `build` itself if the plan is inside
    an image. Raises the errors of `kitaru_targets.build.write`.

        remainder(read(Path("build/review/vertex")), journal, Path("build/review/rest"))
    """
    if build.delivery == "image":
        return build
    return write(
        left(_Bundle(bundle.contents(build.read("bundle.zip")), _locked(build)), journal),
        build.target,
        directory,
        image=build.lock.image,
        store=build.lock.store,
        delivery=build.delivery,
        execution=journal.exec_id,
        base_image=build.lock.base_image,
    )


def _locked(build: Build) -> dict[str, bytes]:
    """Return the lists of the distributions that containers of a build install."""
    names = (installs.HASHED, installs.UNHASHED)
    return {name: build.read(name) for name in names if name in build.lock.files}


def stored(
    journal: Journal,
    target: Target,
    directory: Path,
    *,
    image: str | None = None,
    base_image: str = "",
    round: int = 0,
) -> Build:
    """Do the same as `remainder` from the store alone, for a pipeline whose build is elsewhere.

    `round` is the round that the pipeline is made for, 0 for one that a person submits.

    Raises:
        StateError: the store does not contain the execution's bundle.
    """
    compiled = left(kept(journal), journal)
    url, exec_id = journal.store.url, journal.exec_id
    return write(
        compiled,
        target,
        directory,
        image=image,
        store=url,
        execution=exec_id,
        round=round,
        base_image=base_image,
    )


def kept(journal: Journal) -> _Bundle:
    """Return the bundle that an execution runs from; raise StateError if it is not stored."""
    digest = journal.execution.bundle_digest
    data = journal.store.get(keys.bundle(digest)) if digest else None
    if data is None or sha256(data) != digest:
        raise StateError(
            f"The store {journal.store.url} does not hold the code that {journal.exec_id} runs: it "
            "came in an image or in the document.",
            help=f"Run the same document again with kitaru_execution={journal.exec_id}: finished "
            "steps do not run again.",
        )
    inside = bundle.contents(data)
    names = (installs.HASHED, installs.UNHASHED, installs.STORE)
    paths = {name: f"{bundle.BUILD}/{name}" for name in names}
    return _Bundle(inside, {n: inside[path] for n, path in paths.items() if path in inside})


def plan_of(whole: _Bundle) -> Plan:
    """Return the plan in a bundle; raise StateError if it is damaged."""
    return plans.read_plan(whole.read("plan.json"), "The bundle")


def left(whole: _Bundle, journal: Journal) -> Left:
    """Return the residual compilation of an execution that started with the bundle `whole`."""
    text = whole.read("plan.json")
    plan, digest = plan_of(whole), sha256(text)
    prefix = scope(journal, plan.residual_of or digest)
    block = standing(plan, journal, prefix) or plan.blocks[0].name
    rest = residual(plan, block, digest, _items(plan, block, journal, prefix))
    rest = rest.replace(parameters=())
    return Left(rest, bundle.steps(whole.inside), whole)


def standing(plan: Plan, journal: Journal, prefix: str) -> str | None:
    """Return the last block with a frame, None while the first step has passed on none.

    `prefix` is the prefix of the plan's block names in the journal. The result only saves
    containers: every step checks its own guard.
    """
    held = set(journal.store.list(keys.frames(journal.exec_id)))
    for block in reversed(plan.blocks):
        name = prefix + block.name
        if keys.frame(journal.exec_id, name) not in held:
            continue
        if "from" in (journal.frame_pointer(name) or {}):
            return block.name
    return None


def _items(plan: Plan, block: str, journal: Journal, prefix: str) -> tuple[str, ...]:
    """Return the remaining work of the fan-out's nodes that `block` gathers, if it does."""
    fan = next((step for step in plan.steps if step.per_item and step.entry == block), None)
    handed = journal.frame_pointer(prefix + block) or {}
    exit = journal.exit(handed["from"]) if fan and "from" in handed else None
    if fan is None or exit is None or exit.frame is None:
        return ()
    return tuple(items(promised_in(journal.fetch(exit.frame)), journal, fan.per_item))


@dataclass(frozen=True)
class Left:
    """A residual compilation, which is written like any other compilation."""

    plan: Plan
    steps_py: str
    travel: _Bundle

    @property
    def locked(self) -> tuple[Locked, ...]:
        """The requirements recorded in the build with which the execution started."""
        return self.travel.locked


@dataclass(frozen=True)
class _Bundle:
    """The content of a compilation's bundle: the compiler's own files, and the project's."""

    inside: Mapping[str, bytes]
    lists: Mapping[str, bytes]

    @property
    def locked(self) -> tuple[Locked, ...]:
        found = (one for n, data in self.lists.items() for one in installs.parse(data, n))
        return tuple(dict.fromkeys(found))

    def read(self, name: str) -> bytes:
        return bundle.written(self.inside, name)

    @property
    def files(self) -> dict[str, bytes]:
        return bundle.project(self.inside)

    @property
    def reasons(self) -> dict[str, str]:
        """The reasons for the data files, from the lock of the whole compilation."""
        return {}
