"""Compile short flows for tests; `a` to `e` are checkpoints, `n` is a plain function."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kitaru_compiler import Compilation, compile_flow

from kitaru.wire.plan import Granularity, Plan

PRELUDE = """import kitaru
from kitaru import checkpoint, flow

@checkpoint
def a(x=0): return x
@checkpoint
def b(x=0): return x
@checkpoint
def c(x=0): return x
@checkpoint
def d(x=0): return x
@checkpoint
def e(x=0): return x

def n(x): return x
"""


def compile_source(source: str, granularity: Granularity = "checkpoint") -> Compilation:
    """Compile the only flow of `source`, which is complete without a prelude."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        path.write_text(PRELUDE + source, encoding="utf-8")
        return compile_flow(path, granularity=granularity)


def plan_of(source: str, granularity: Granularity = "checkpoint") -> Plan:
    """Return the plan of the only flow of `source`."""
    return compile_source(source, granularity).plan
