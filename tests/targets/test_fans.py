"""A fan-out runs as nodes side by side, and a retry starts only the unfinished ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry

from kitaru.client import KitaruClient

from .test_dry_run import Watched

# Calls of `meet` return when all of them have begun.
LISTS = """
    import time
    from pathlib import Path
    import kitaru
    from kitaru import checkpoint, flow

    MARKS = Path({folder!r})

    @checkpoint
    def parts(n: int) -> list:
        return list(range(n))

    @checkpoint
    def meet(number: int, all: int) -> int:
        (MARKS / f"here-{{number}}").touch()
        for _ in range(2400):
            if len(list(MARKS.glob("here-*"))) == all:
                return number
            time.sleep(0.1)
        raise TimeoutError(f"{{number}} was alone")

    @checkpoint
    def odd(number: int) -> int:
        with (MARKS / "marks").open("a") as file:
            file.write(f"{{number}} ")
        if number == 2 and (MARKS / "broken").exists():
            raise ValueError("broken")
        return number * 10

    @flow
    def side(n: int) -> list:
        handles = [meet.submit(number, n) for number in parts(n)]
        return [handle.result() for handle in handles]

    @flow
    def rest(n: int) -> int:
        numbers = parts(n)
        found = odd.map(numbers).result()
        return sum(found)

    @flow
    def arms(n: int) -> int:
        numbers = parts(n)
        if n > 5:
            found = odd.map(parts(n)).result()
        else:
            found = odd.map([number + 4 for number in numbers]).result()
        return sum(found) + 10

    @flow
    def asked(n: int) -> int:
        more = kitaru.wait(name="more", schema=int)
        return sum(handle.result() for handle in odd.map(range(n + more)))
"""


@pytest.fixture
def run(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


Lists = Callable[..., build.Build]


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    def made(flow: str, target: str = "kubeflow", granularity: Any = "checkpoint") -> build.Build:
        path = tmp_path / "flows.py"
        path.write_text(dedent(LISTS).format(folder=str(tmp_path)))
        chosen = registry.get(target)
        found = compile_flow(path, flow, profile=chosen.profile, granularity=granularity)
        return build.write(found, chosen, tmp_path / "out")

    return made


@pytest.mark.parametrize("target", ["airflow", "argo", "kubeflow", "sagemaker", "stepfunctions"])
@pytest.mark.parametrize("granularity", ["checkpoint", "fused", "single"])
def test_calls_run_side_by_side(lists: Lists, run: Watched, target: str, granularity: Any) -> None:
    done = run(lists("side", target, granularity), n=3)
    assert done["result"] == [0, 1, 2]
    nodes = ["parts", "meet", "meet", "meet", "gather_meet"]
    steps = [step for step, _ in run.steps]
    assert steps == (nodes if granularity == "checkpoint" else steps[:2])
    records = KitaruClient(run.url).executions.get(done["exec_id"]).invocations
    assert [r.id for r in records] == ["parts", "meet", "meet_2", "meet_3"]


@pytest.mark.parametrize("target", ["airflow", "argo", "kubeflow", "sagemaker", "stepfunctions"])
def test_a_list_behind_an_arm_that_is_passed_over(lists: Lists, run: Watched, target: str) -> None:
    done = run(lists("arms", target), n=2)
    assert done["result"] == 100
    assert [step for step, status in run.steps if status not in ("skip", "99")] == [
        "parts", "odd_2", "odd_2", "gather_odd_2",
    ]  # fmt: skip


def test_only_the_calls_that_failed_are_made_again(
    lists: Lists, run: Watched, tmp_path: Path
) -> None:
    built = lists("rest")
    (tmp_path / "broken").touch()
    failed = run(built, n=4)
    assert (failed["status"], failed["error"]["message"]) == ("failed", "broken")
    assert [step for step, _ in run.steps] == ["parts", *["odd"] * 4, "gather_odd"]
    (tmp_path / "broken").unlink()
    done = run(built, {}, failed["exec_id"], n=4)
    assert done["result"] == 60
    assert [step for step, _ in run.steps] == ["odd", "gather_odd"]
    assert sorted((tmp_path / "marks").read_text().split()) == ["0", "1", "2", "2", "3"]


def test_a_fan_out_after_an_answer(lists: Lists, run: Watched) -> None:
    built = lists("asked")
    waiting = run(built, n=1)
    done = run(built, {"more": 2}, waiting["exec_id"], n=1)
    assert done["result"] == 30
    assert [step for step, _ in run.steps] == ["more", "odd", "odd", "odd", "gather_odd"]
    again = run(built, {"more": 2}, n=1)
    assert again["result"] == 30


@pytest.mark.parametrize(
    ("target", "said"),
    [("vertex", "parallelismLimit: 2"), ("airflow", "max_active_tis_per_dagrun=2")],
)
def test_a_flow_says_how_many_nodes_run_at_a_time(
    lists: Lists, tmp_path: Path, target: str, said: str
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.kitaru]\nmax_parallel = 2\n")
    written = lists("arms", target)
    assert said in written.document.read_text()
