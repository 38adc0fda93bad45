"""Select the submitted calls that become nodes of their own, and their resources."""

from __future__ import annotations

from kitaru.wire.plan import Granularity, Step
from kitaru_compiler.cut.basic_blocks import DraftBlock, Fork, Place
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.cut.resources import isolated, resources
from kitaru_compiler.cut.retries import retrying


def is_native(block: DraftBlock, granularity: Granularity, profile: Profile) -> bool:
    """Return whether the calls that a block submits become nodes; else they run on threads."""
    if block.kind != "fan" or not profile.fan_out:
        return False
    runtimes = {call.options.runtime for call in block.calls if call.options}
    wanted = granularity == "checkpoint" or "isolated" in runtimes
    return wanted and "inline" not in runtimes


def nodes_of(block: DraftBlock, profile: Profile) -> Step:
    """Return the step whose nodes make the calls that a fan submits."""
    options = [call.options for call in block.calls if call.options]
    (joined,) = block.next
    assert joined is not None
    step = Step(
        name=block.items,
        entry=joined.name,
        blocks=(block.name,),
        exits=(),
        span=block.source.span(block.place),
        resources=resources(block),
        isolated=isolated(block),
        per_item=profile.fan_out,
    )
    return retrying(step, options, profile)


def takes_in(element: Place | Fork) -> bool:
    """Return whether the gathering step can also run what follows. Its container runs anyway."""
    if isinstance(element, Fork):
        return False
    block = element.block
    return block.kind not in ("wait", "fan") and not isolated(block) and not asks(block)


def asks(block: DraftBlock) -> bool:
    """Return whether a block wants a machine of some size."""
    wanted = resources(block)
    return bool(wanted.cpu or wanted.memory or wanted.gpu)
