"""Fill a new store with sample executions, to look at the pages of the service."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.ops.deploy import LOCAL, deploy
from kitaru.ops.flow_ref import Location
from kitaru.ops.invoke import find, invoke
from kitaru.stores import open_store

if TYPE_CHECKING:
    from kitaru.stores.base import Store

_FLOWS = '''\
"""Sample flows. The model is an offline one that always gives the same answer."""

from datetime import date
from time import sleep
from typing import Literal

import kitaru
from kitaru import checkpoint, flow
from pydantic import BaseModel, Field


class Change(BaseModel):
    clause: str
    text: str = Field("", description="What it shall say instead.")
    must: bool = False


class Decision(BaseModel):
    verdict: Literal["approve", "request changes", "reject"]
    changes: list[Change] = []
    limit_eur: int = Field(50_000, ge=0, le=250_000)
    sign_by: date | None = None


@checkpoint
def read_contract(supplier: str) -> list[str]:
    sleep(0.3)
    print(f"reading the contract with {supplier}")
    return ["7.2 Liability is unlimited.", "9 Payment within 30 days.", "11.4 Renewal for a year."]


@checkpoint
def assess(clause: str) -> dict:
    sleep(0.2)
    return {"clause": clause, "risk": "high" if "unlimited" in clause else "low"}


@checkpoint
def draft_reply(risks: list) -> str:
    return kitaru.llm(prompt=f"Write a formal reply about these risks: {risks}", model="strong")


@checkpoint
def send(reply: str) -> str:
    return f"sent, {len(reply)} characters"


@flow
def contract_review(supplier: str) -> str:
    """Read a contract, draft a reply, and ask legal before it is sent."""
    clauses = read_contract(supplier)
    risks = assess.map(clauses)
    reply = draft_reply([risk.result() for risk in risks])
    decision = kitaru.wait(
        name="legal",
        question=f"Send this reply to {supplier}?",
        schema=Decision,
        metadata={"supplier": supplier, "clauses": len(clauses)},
    )
    return send(reply) if decision.verdict == "approve" else decision.verdict


@checkpoint(retries=1)
def look_up(order: str) -> dict:
    sleep(0.2)
    if order == "A-20419":
        raise ValueError("order A-20419 has no invoice")
    return {"order": order, "amount": 184.2, "reason": "arrived broken"}


@flow
def refund(order: str) -> str:
    """Look up an order, and ask before its amount is paid back."""
    found = look_up(order)
    pay = kitaru.wait(
        name="approve_refund", question=f"Pay back {found['amount']} EUR for {order}?", schema=bool
    )
    kitaru.memory.set(f"refunds/{order}", {"paid": pay, **found})
    return f"paid {found['amount']}" if pay else "refused"
'''
_RUNS = {
    "contract_review": [{"supplier": "Nordwind Logistics"}, {"supplier": "Havn AS"}],
    "refund": [{"order": "A-20417"}, {"order": "A-20418"}, {"order": "A-20419"}],
}
_ANSWER = (
    "Dear colleagues,\n\nThank you for the draft. We can sign on the following terms.\n\n"
    "7.2 Liability: we ask for a cap at the fees paid in the twelve months before the claim.\n\n"
    "Kind regards"
)


def demo(folder: Path) -> Store:
    """Deploy sample flows into a new store below a folder, and start executions of them.

    The executions run in processes of their own. The model calls of this process and of those that
    it starts are answered by an offline model.

    Raises:
        KitaruError: a flow cannot be deployed or started.

    Example:
        demo(Path(tempfile.mkdtemp()))
    """
    from kitaru.ops.compile import Request

    os.environ["KITARU_LLM_MOCK_RESPONSE"] = _ANSWER
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    with tempfile.TemporaryDirectory(prefix="kitaru-demo-") as sources:
        file = Path(sources) / "sample_flows.py"
        file.write_text(_FLOWS, encoding="utf-8")
        for name in _RUNS:
            request = Request(flow=Location(file, name), target=LOCAL, directory=Path(), store="")
            deploy(request, store)
    for name, inputs in _RUNS.items():
        for each in inputs:
            invoke(store, find(store, name), each)
    return store
