"""One step for all: what would have been cut, and why not, is not reported."""

from __future__ import annotations

import pytest

from kitaru.wire.plan import Granularity

from .helpers import compile_source

KEPT_TOGETHER = """
from datetime import datetime
from kitaru import checkpoint, flow

@checkpoint
def work(n: int) -> int:
    return n + 1

@flow
def loops(n: int) -> int:
    began = datetime.now()
    while n < 3:
        n = work(n)
    for part in range(n):
        n = work(part)
    try:
        n = work(work(n))
    except ValueError:
        n = 0
    return n if began else 0
"""


@pytest.mark.parametrize(
    ("granularity", "reported"),
    [("checkpoint", {"KIT202", "KIT310", "KIT311", "KIT312"}), ("single", {"KIT202"})],
)
def test_what_stays_together(granularity: Granularity, reported: set[str]) -> None:
    assert {one.code for one in compile_source(KEPT_TOGETHER, granularity).diagnostics} == reported
