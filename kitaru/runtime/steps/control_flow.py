"""Control flow between the steps of a flow, as recorded in the journal."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.engine import promised_calls
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.steps.frames import passed_in, promised_in
from kitaru.wire.plan import Plan, Step
from kitaru.wire.records import ExitRecord

StepStatus = Literal["go", "end", "waiting", "skip"]
END = "end"


def scope(journal: Journal, digest: str) -> str:
    """Return the key prefix of a plan's blocks in a journal; `digest` is the plan's.

    Frames fit only the plan for which they were written. Under any other plan the journal is
    replayed. A residual plan uses the frames of its original plan.
    """
    own = journal.execution.plan_digest == digest
    return "" if own else f"{digest.removeprefix('sha256:')[:12]}."


class Outputs(NamedTuple):
    """A step's native outputs: the next step, the step's status, and the list of a fan-out."""

    next: str
    status: StepStatus
    items: tuple[str, ...] = ()


class Entry(NamedTuple):
    """The point where a step continues: a block, the exit of its segment, and a pending wait.

    `left` is None if no process has ended the segment yet. `waited` is the exit of an earlier
    process of this step at the wait of `block`, None if control arrived in another way.
    """

    block: str
    left: ExitRecord | None
    waited: ExitRecord | None


class ControlFlow:
    """Control flow between steps, as recorded in the journal."""

    def __init__(self, journal: Journal, plan: Plan, digest: str, step: Step) -> None:
        """`step` is the step that this container runs."""
        self.journal = journal
        self._plan = plan
        self._entries = {step.entry: step for step in plan.steps if not step.per_item}
        self._fans = {step.entry: step for step in plan.steps if step.per_item}
        self._submits = frozenset(step.blocks)
        self._scope = scope(journal, plan.residual_of or digest)

    @property
    def is_other_plan(self) -> bool:
        """Whether the execution was started with another plan, with frames that do not fit."""
        return bool(self._scope)

    def key(self, block: str) -> str:
        """Return the journal's name for a block of this plan."""
        return self._scope + block

    def step_at(self, block: str) -> str:
        """Return the name of the step that starts at `block`."""
        return self._entries[block].name

    def cut_before(self, block: str) -> Step | None:
        """Return the step that starts at `block`, None if control stays in this process."""
        return self._entries.get(block)

    def fan_of(self, block: str) -> Step | None:
        """Return the step whose nodes run the calls that `block` submits, or None."""
        return next((step for step in self._fans.values() if step.blocks == (block,)), None)

    def entry(self, block: str) -> Entry:
        """Return where to continue from `block`, after all waits already passed."""
        waited, left = None, self.journal.exit(self.key(block))
        while left is not None and left.status == "waiting" and left.next is not None:
            self.forward(left)  # the process that recorded this exit may have died before this call
            block, waited = left.next, left
            left = self.journal.exit(self.key(block))
        return Entry(block, left, waited)

    def was_reached(self, block: str) -> bool:
        """Return whether control has reached or passed `block`."""
        return self.journal.frame_pointer(self.key(block)) is not None

    def pointer(self, block: str) -> dict[str, str] | None:
        """Return the location of the frame of `block`, or the block at which control continued."""
        pointer = self.journal.frame_pointer(self.key(block))
        return None if pointer is None else {k: self._bare(v) for k, v in pointer.items()}

    def frame(self, source: str) -> Any:
        """Return the document of the frame recorded at the exit of the segment from `source`."""
        left = self.journal.exit(self.key(source))
        if left is None or left.frame is None:
            raise EnvironmentFailure(f"The frame that {source} handed on is gone.")
        return self.journal.fetch(left.frame)

    def record_exit(self, record: ExitRecord) -> ExitRecord:
        """Record the exit of this segment, or return the exit recorded by another process."""
        return self.journal.record_exit(record)

    def outputs(self, block: str) -> Outputs:
        """Return the native outputs of a step that continues at `block`."""
        fan = self._fans.get(block)
        # Return only the list of this step's own fan-out: another step's list starts other nodes.
        items = self._items(fan) if fan and self._submits.issuperset(fan.blocks) else []
        return Outputs(self.step_at(block), "go", tuple(items))

    def _items(self, fan: Step) -> list[str]:
        pointer = self.pointer(fan.entry) or {}
        promised = promised_in(self.frame(pointer["from"])) if "from" in pointer else []
        return promised_calls.items(promised, self.journal, fan.per_item) if promised else []

    def forward(self, left: ExitRecord) -> Outputs:
        """Set the frame pointers of all blocks affected by an exit; return the native outputs.

        May be repeated after a crash: it writes the same pointers each time.
        """
        if left.next is None or left.frame is None:
            return Outputs(END, "end")
        if left.status == "go":
            for block in passed_in(self.journal.fetch(left.frame)):
                self.journal.set_frame_pointer(self.key(block), {"passed": self.key(left.next)})
        self.journal.set_frame_pointer(self.key(left.next), {"from": left.block})
        if left.status == "waiting":
            after = self.cut_before(left.next)
            return Outputs(after.name if after else END, "waiting")
        return self.outputs(left.next)

    def _bare(self, key: str) -> str:
        return key.removeprefix(self._scope)
