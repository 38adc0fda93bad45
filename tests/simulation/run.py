"""Run one seed, and report the result."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from kitaru.runtime.telemetry import beats
from tests.simulation.checks import check
from tests.simulation.processes import simulated
from tests.simulation.service import Chaos
from tests.simulation.world import Report, Scenario, World
from tests.waiting import wait_until


def _end_real_beats() -> None:
    """End the real thread of beats, which executions of earlier tests keep alive.

    It would sleep on the simulated clock, and no simulated thread would get the turn again.
    """
    with beats._lock:
        beats._live.clear()
    wait_until(lambda: beats._thread is None or not beats._thread.is_alive())


def simulate(
    seed: int,
    *,
    scenario: Scenario | None = None,
    chaos: Chaos | None = None,
    keeps_trace: bool = False,
    wrong: Sequence[AbstractContextManager[object]] = (),
) -> Report:
    """Run a seed; `failure` of the report is the violated invariant, or None.

    Args:
        scenario, chaos: replace those of the seed, to shrink a failing run.
        wrong: patches that make the product faulty, for tests of the simulation itself.
    """
    _end_real_beats()
    failure: BaseException | None = None
    ended: Counter[str] = Counter()
    # The seed does not determine when the garbage collector runs.
    gc.disable()
    try:
        with ExitStack() as stack:
            for patch in wrong:
                stack.enter_context(patch)
            world = World(scenario or Scenario.drawn(seed), chaos=chaos, keeps_trace=keeps_trace)
            with simulated(world.run), world.watched():
                try:
                    world.run.run(world.harness.start(world.play))
                except Exception as error:
                    failure = error
            if failure is None:
                try:
                    ended.update(check(world).values())
                except AssertionError as error:
                    failure = error
    finally:
        gc.enable()
    return Report(
        seed,
        world.run.fingerprint(),
        world.run.steps,
        world.service.operations,
        len(world.processes),
        Counter(world.chaos.met),
        len(world.executions()),
        ended,
        world.run.trace,
        failure,
    )
