"""Random programs of each construct mean the same cut; `constructs.py` can run more of them."""

from __future__ import annotations

import pytest

from tests.differential.constructs import (
    BESIDE,
    IDIOMS,
    INPUTS,
    KINDS,
    PRELUDE,
    Count,
    compare,
    only_cuts,
)
from tests.differential.harness import compile_text, run_cut, run_plain

pytestmark = pytest.mark.slow

SEEDS = range(1_000_000, 1_000_004)


@pytest.mark.parametrize("kind", KINDS)
def test_a_construct_means_the_same_cut(kind: str) -> None:
    count = Count()
    with only_cuts():
        for seed in SEEDS:
            compare(kind, seed, count)
    assert count.programs and not count.failures, "\n".join(count.failures)


# The second function is made while the first one is still used, and is used after it. `n` changes
# between its calls.
OVERLAPPING = """
@flow
def main(a=1, xs=()):
    n, k, acc = a, 0, [0]
    first = lambda v: cb(v)
    acc[first(n) % 1] = first(n)
    second = lambda v: cb(v, y=n)
    if any(map(cc, range(LIMIT))): return first(len(xs))
    n = second(k) + second(k)
    def third(v, s='x'):
        return cb(v, y=n)
    k = second(len(xs))
    n = (lambda v: cb(v) + twice(decorated, 1))(twice(decorated, 1))
    return n, k
"""


@pytest.mark.parametrize("everywhere", [True, False])
def test_functions_that_overlap_share_the_variables_of_the_flow(everywhere: bool) -> None:
    source = f"{PRELUDE}\n{IDIOMS}\n{OVERLAPPING}"
    compilation, path = compile_text(source, "checkpoint", BESIDE)
    plain = run_plain(compilation, path, INPUTS)
    passed = [event for event in plain.same()[1] if "'y'" in event]
    assert len(passed) == 3 and "1)" not in passed[2], "the changed `n` is passed"
    assert run_cut(compilation, path, INPUTS, everywhere=everywhere).same() == plain.same()


# Each leaves behind a function or generator that reads `n` later, and a use of it.
LEFT_BEHIND = {
    "a function made by a function that calls a checkpoint": (
        "def adder(v):\n    v = cb(v)\n    return lambda: v + n\nmade = adder(1)",
        "made()",
    ),
    "dict(key=...)": ("made = dict(key=lambda: n)", "made['key']()"),
    "a key function": (
        "made = []\nmin(xs, key=lambda v: made.append(lambda: n) or v)",
        "made[0]()",
    ),
    "max of generators": (
        "made = max((n for _ in range(9)), (n for _ in range(9)), key=id)",
        "next(made)",
    ),
    "the start of a sum": ("made = sum((v for v in ()), (n for _ in range(9)))", "next(made)"),
}


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("kind", LEFT_BEHIND)
def test_functions_left_behind_share_the_variables_of_the_flow(kind: str, everywhere: bool) -> None:
    made, use = LEFT_BEHIND[kind]
    lines = ["n = a", *made.splitlines(), "n = cb(n) + 10", f"k = {use}", "n = cb(k) + 20"]
    flow = "\n    ".join(["@flow\ndef main(a=1, xs=()):", *lines, f"return n, k, {use}"])
    compilation, path = compile_text(f"{PRELUDE}\n{flow}\n", "checkpoint", BESIDE)
    plain = run_plain(compilation, path, INPUTS)
    assert not plain.raised_at
    assert run_cut(compilation, path, INPUTS, everywhere=everywhere).same() == plain.same()
