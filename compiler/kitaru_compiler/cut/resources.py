"""Decides what a step asks of its machine, from what its checkpoints ask for."""

from __future__ import annotations

from collections.abc import Iterable

from kitaru.wire.plan import Resources
from kitaru_compiler.cut.draft import DraftBlock
from kitaru_compiler.ir.nodes import CheckpointOptions


def option(block: DraftBlock, name: str) -> object:
    """Return what the checkpoint of a block asks for, None where it is no checkpoint."""
    if block.kind != "checkpoint":
        return None
    return getattr(block.calls[0].options, name, None)


def isolated(block: DraftBlock) -> bool:
    """Say whether a checkpoint of the block must have a process of its own."""
    if block.kind == "fan":
        return any(c.options and c.options.runtime == "isolated" for c in block.calls)
    return option(block, "runtime") == "isolated"


def resources(*blocks: DraftBlock) -> Resources:
    """Return the most that any checkpoint of the blocks asks for."""
    options = _options(blocks)
    return Resources(
        cpu=max((o.cpu for o in options), key=_cores, default=""),
        memory=max((o.memory for o in options), key=_bytes, default=""),
        gpu=max((o.gpu for o in options), default=0),
    )


def pickles(blocks: Iterable[DraftBlock]) -> bool:
    """Say whether a checkpoint that the blocks may call allows its result to be pickled."""
    return any(options.pickle for options in _options(blocks))


def _options(blocks: Iterable[DraftBlock]) -> list[CheckpointOptions]:
    calls = [call for block in blocks for call in block.calls]
    return [one for call in calls for one in (call.options, *call.needs) if one]


def _cores(text: str) -> float:
    try:
        return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
    except ValueError:
        return 0.0


def _bytes(text: str) -> float:
    units = {
        "K": 1e3,
        "M": 1e6,
        "G": 1e9,
        "T": 1e12,
        "Ki": 2**10,
        "Mi": 2**20,
        "Gi": 2**30,
        "Ti": 2**40,
    }
    number = text.rstrip("KMGTi")
    try:
        return float(number) * units.get(text[len(number) :], 1)
    except ValueError:
        return 0.0
