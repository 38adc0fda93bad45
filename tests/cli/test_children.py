"""Dry runs of flows that wait for events, and whose children ask, sleep and run other flows."""

from __future__ import annotations

import pytest

from .conftest import Kitaru

FLOWS = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def price(n: int) -> int:
    return 3 * n

@flow
def billing(n: int) -> str:
    kitaru.sleep(3600)
    sure = kitaru.wait(name="sure", question="Bill?", schema=bool)
    return f"bill of {n}: {sure}"

@flow
def order(n: int) -> str:
    amount = price(n)
    ok = kitaru.wait(name="ok", question="Order?", schema=bool)
    bill = kitaru.invoke(billing, {"n": amount})
    kitaru.sleep(60)
    paid = kitaru.wait_event("paid", match={"order.n": n}, where="data.order.euros > 1")
    return f"{bill}, {ok}, {price(n + 1)}, {paid['order']['euros']}"
"""


@pytest.mark.parametrize(
    "target", ["kubeflow", "argo", "kubernetes", "stepfunctions", "airflow", "sagemaker"]
)
def test_a_dry_run_plays_a_child_of_the_project(target: str, kitaru: Kitaru) -> None:
    kitaru.write("shop.py", FLOWS)
    done = kitaru(
        *("dry-run", "shop.py:order", "--target", target, "--input", "n=2", "--skip-time"),
        *("--answer", "ok=true", "--answer", "sure=false"),
        *("--event", 'paid={"order": {"n": 2, "euros": 1}}'),
        *("--event", 'paid={"order": {"n": 2, "euros": 5}}'),
    )
    assert done.out.splitlines()[-1] == "bill of 6: False, True, 9, 5"
