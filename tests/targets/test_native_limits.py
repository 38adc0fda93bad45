"""A limit of a flow is in the document where it means the same there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kitaru_targets import registry
from kitaru_targets.airflow import dag_file
from kitaru_targets.common import read

from kitaru.wire.flow_limits import FlowLimits, Limit

from .programs import WIRING, Do, plan
from .test_stepfunctions import OPTIONS

FIVE = FlowLimits((Limit(5), Limit(1, key="input.customer")), (Limit(9, per=60.0),))
ALONE = FlowLimits((Limit(1), Limit(7)))
NONE = {
    "no limit": FlowLimits(),
    "only by key": FlowLimits((Limit(1, key="input.customer"),)),
    "priority": FlowLimits((Limit(1),), priority="input.n"),
    "skips": FlowLimits((Limit(1, when_full="skip"),)),
    "cancels": FlowLimits((Limit(1),), (Limit(2, per=60.0, when_full="cancel"),)),
}


def emitted(target: str, limits: FlowLimits, *, waits: bool = False, execution: str = "") -> Any:
    program = (Do("a", wait=waits), Do("b"))
    made = plan(program, options=OPTIONS if waits else {}).replace(limits=limits.to_json())
    if waits:
        made = made.replace(options={})
    text = registry.get(target).emit(made, replace(WIRING, execution=execution)).text
    assert registry.get(target).validate(text) == []
    return dag_file.read(text).dag if target == "airflow" else read.parse(text)["spec"]


def test_airflow_counts_runs_and_argo_locks_one() -> None:
    assert emitted("airflow", FIVE)["max_active_runs"] == 5
    assert emitted("airflow", ALONE)["max_active_runs"] == 1
    assert emitted("argo", ALONE)["synchronization"] == {"mutexes": [{"name": "kitaru-some-flow"}]}
    assert "synchronization" not in emitted("argo", FIVE)


@pytest.mark.parametrize("target", ["airflow", "argo"])
def test_a_limit_that_means_something_else_there_is_not_in_the_document(target: str) -> None:
    field = {"airflow": "max_active_runs", "argo": "synchronization"}[target]
    for name, limits in NONE.items():
        assert field not in emitted(target, limits), name
    # A run that waits has no place, and the remaining steps ask for one of their own.
    assert field not in emitted(target, ALONE, waits=True)
    assert field not in emitted(target, ALONE, execution="e-1")


def test_a_wrong_number_is_refused() -> None:
    text = registry.get("airflow").emit(plan((Do("a"),)).replace(limits=ALONE.to_json()), WIRING)
    faulty = text.text.replace("max_active_runs=1", "max_active_runs=0")
    assert any("runs at once" in one for one in registry.get("airflow").validate(faulty))
