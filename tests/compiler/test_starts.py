"""What a run waits for until its containers have started, told from the plan and the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_compiler.compile import ANY_TARGET
from kitaru_compiler.cut.latency import Starts, shown, starts

from kitaru.wire.plan import Granularity

PROFILE = replace(ANY_TARGET, name="slow", start_seconds=(60, 120))
PRELUDE = """\
import kitaru
from kitaru import checkpoint, flow
@checkpoint
def a(x=0): ...
@checkpoint(retries=2)
def b(x=0): ...
@checkpoint(cpu="4")
def c(x=0): ...
@flow
def main(n: int = 1):
"""


def counted(
    folder: Path, body: str, granularity: Granularity = "checkpoint", **changes: object
) -> Starts:
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    (folder / "flow.py").write_text(PRELUDE + lines)
    profile = replace(PROFILE, **changes)  # type: ignore[arg-type]
    made = compile_flow(folder / "flow.py", granularity=granularity, profile=profile)
    return starts(made.plan, profile)


def test_each_step_is_a_start(tmp_path: Path) -> None:
    assert counted(tmp_path, "a(b())") == Starts(2, 2, (120, 240), (120, 240))


def test_calls_that_share_a_step_are_the_starts_that_are_saved(tmp_path: Path) -> None:
    assert counted(tmp_path, "while a(): b()\nc()") == Starts(2, 3, (120, 240), (180, 360))
    assert counted(tmp_path, "a(b(a()))", "single").calls == 3


def test_the_longest_arm_counts_where_conditions_choose(tmp_path: Path) -> None:
    body = "if a():\n    b()\n    b()\nelse:\n    c()"
    assert counted(tmp_path, body).steps == 3
    assert counted(tmp_path, body, branches=False).steps == 4


def test_where_several_steps_decide_the_first_of_each_arm_starts(tmp_path: Path) -> None:
    body = "if a(): b()\nelse: c()\nif n:\n    a()\n    b()\nelse:\n    c()\n    a()\n    b()"
    # One arm of the first; of the second the first step of both arms, and the rest of both.
    assert counted(tmp_path, body).steps == 2 + 5


def test_what_a_break_skips_is_an_arm(tmp_path: Path) -> None:
    assert counted(tmp_path, "for i in range(4):\n    if a(i): break\nb()").steps == 5


def test_a_wait_and_memory_start_nothing(tmp_path: Path) -> None:
    body = "a()\nkitaru.memory.set('k', 1)\nkitaru.wait(name='ok')\nkitaru.log(n=1)\nb()"
    assert counted(tmp_path, body) == Starts(2, 2, (120, 240), (120, 240))


@pytest.mark.parametrize(("seconds", "steps"), [((1, 20), 3), ((60, 120), 2)])
def test_fused_keeps_a_retry_that_is_cheaper_than_a_machine(
    tmp_path: Path, seconds: tuple[int, int], steps: int
) -> None:
    assert counted(tmp_path, "a(b())\nc()", "fused", start_seconds=seconds).steps == steps


def test_fused_merges_what_the_target_would_not_start_again_anyway(tmp_path: Path) -> None:
    assert counted(tmp_path, "a(b())", "fused", start_seconds=(1, 2), retry="shim").steps == 1


def test_branches_nest_as_deep_as_the_target_lets_them(tmp_path: Path) -> None:
    body = "if a():\n    if b():\n        if c():\n            a()\n            b()"
    assert counted(tmp_path, body).steps == 5
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (tmp_path / "flow.py").write_text(PRELUDE + lines)
    made = compile_flow(tmp_path / "flow.py", profile=replace(PROFILE, max_depth=2))
    (note,) = made.diagnostics
    assert note.code == "KIT322" and "nests 2 conditions at most" in note.message
    assert note.span.line == 13


@pytest.mark.parametrize(
    ("seconds", "text"),
    [((20, 40), "20–40 s"), ((60, 120), "1–2 min"), ((5, 5), "5 s"), ((600, 1200), "10–20 min")],
)
def test_seconds_are_shown_as_a_person_says_them(seconds: tuple[int, int], text: str) -> None:
    assert shown(seconds) == text
