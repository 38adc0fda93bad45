"""Who tries a step again, as each target's profile allows."""

from __future__ import annotations

import pytest
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.cut.retries import retrying
from kitaru_compiler.ir.nodes import CheckpointOptions

from kitaru.wire.plan import Span, Step

STEP = Step("s", "s", ("s",), (None,), Span("f.py", 1, 1, 1, 2))


def profile(*, native: bool, pauses: bool) -> Profile:
    retry = "native" if native else "shim"
    return Profile("t", True, retry, "suspended", 90, (0, 0), retry_pauses=pauses)


@pytest.mark.parametrize(
    ("native", "pauses", "delay", "knows", "retry"),
    [
        (True, True, 0, True, "native"),
        (True, True, 5, True, "native"),
        (True, False, 0, True, "native"),
        (True, False, 5, True, "shim"),
        (True, True, 0, False, "shim"),
        (False, False, 5, True, "shim"),
    ],
)
def test_an_orchestrator_tries_again_where_it_can_do_all_that_is_asked(
    native: bool, pauses: bool, delay: float, knows: bool, retry: str
) -> None:
    asked = CheckpointOptions("s", retries=2, retry_delay=delay, native_retry=knows)
    found = retrying(STEP, [asked], profile(native=native, pauses=pauses))
    assert (found.retries, found.retry_delay, found.retry) == (2, delay, retry)


def test_of_several_checkpoints_the_most_is_asked_for() -> None:
    asked = [
        CheckpointOptions("a", retries=1, retry_delay=5),
        CheckpointOptions("b", retries=3, backoff=4),
    ]
    found = retrying(STEP, asked, profile(native=True, pauses=True))
    assert (found.retries, found.retry_delay, found.backoff) == (3, 5, 4)
    assert retrying(STEP, [], profile(native=True, pauses=True)) is STEP
