"""A support desk: waits inside arms, early ends, a join that several steps decide."""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def classify(t: str) -> str:
    return "bug" if "crash" in t else "refund" if "money" in t else "other"


@checkpoint(cpu="1", memory="2Gi", retries=2)
def reproduce(t: str) -> dict:
    return {"ok": "always" in t, "log": t.upper()}


@checkpoint
def fix(log: str) -> str:
    return f"fixed {log}"


@checkpoint
def pay(amount: float) -> str:
    return f"paid {amount:.2f}"


@checkpoint
def answer(text: str, tone: str = "kind") -> str:
    return f"[{tone}] {text}"


class Escalated(Exception): ...


@flow
def triage(t: str, limit: float = 50.0, vip: bool = False):
    kind = classify(t)
    note = f"{kind=}"
    if kind == "bug":
        rep = reproduce(t)
        if not rep["ok"]:
            more = kitaru.wait(name="details", question=f"How to reproduce {t!r}?", schema=str)
            rep = reproduce(t + " " + more)
            if not rep["ok"]:
                return answer("cannot reproduce", tone="sorry")
        text = fix(rep["log"])
    elif kind == "refund":
        amount = 100.0 if vip else 20.0
        if amount > limit:  # noqa: SIM102 - an engineer in a hurry nests
            if not kitaru.wait(name="approve", question=f"Pay {amount}?"):
                return "refused"
        text = pay(amount)
    else:
        if vip:
            raise Escalated(note)
        text = "nothing to do"
    for tone in ("kind", "formal"):
        text = answer(text, tone) if len(text) < 40 else text
    return {"text": text, "note": note}
