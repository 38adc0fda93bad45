"""Resources and pickle permission of a step, from the options of its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from kitaru.errors import UsageError
from kitaru.wire.amounts import cores, size
from kitaru.wire.plan import Resources
from kitaru_compiler.cut.basic_blocks import DraftBlock
from kitaru_compiler.ir.nodes import CheckpointOptions, DurableCall


def option(block: DraftBlock, name: str) -> object:
    """Return the options of a block's checkpoint, None if the block is not a checkpoint."""
    if block.kind != "checkpoint":
        return None
    return getattr(block.calls[0].options, name, None)


def isolated(block: DraftBlock) -> bool:
    """Return whether a checkpoint of the block must run in a process of its own."""
    if block.kind == "fan":
        return any(c.options and c.options.runtime == "isolated" for c in block.calls)
    return option(block, "runtime") == "isolated"


def resources(*blocks: DraftBlock) -> Resources:
    """Return the maximum resources requested by any checkpoint of the blocks."""
    return most(asked_by(call for block in blocks for call in block.calls))


def pickles(blocks: Iterable[DraftBlock]) -> bool:
    """Return whether a checkpoint that the blocks may call allows its result to be pickled."""
    return may_pickle(asked_by(call for block in blocks for call in block.calls))


def asked_by(calls: Iterable[DurableCall]) -> list[CheckpointOptions]:
    """Return the options of every checkpoint that the calls may reach."""
    return [one for call in calls for one in (call.options, *call.needs) if one]


def may_pickle(options: Iterable[CheckpointOptions]) -> bool:
    """Return whether one of the checkpoints allows its result to be pickled."""
    return any(one.pickle for one in options)


def most(options: Iterable[CheckpointOptions]) -> Resources:
    """Return the maximum of each resource that the checkpoints request."""
    options = list(options)
    return Resources(
        cpu=max((o.cpu for o in options), key=_cores, default=""),
        memory=max((o.memory for o in options), key=_bytes, default=""),
        gpu=max((o.gpu for o in options), default=0),
    )


def _cores(text: str) -> float:
    return _amount(cores, text)


def _bytes(text: str) -> float:
    return _amount(size, text)


def _amount(read: Callable[[str], float], text: str) -> float:
    """Return an amount as a number; an invalid amount is the maximum, which targets reject."""
    try:
        return read(text) if text else 0
    except UsageError:
        return inf
