"""Sort a support ticket and answer it: branches, an early return, a wait on one arm only.

Each arm of the `if` becomes its own group of steps, so the steps of the arms that were not taken
never start a container.
"""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def classify(ticket: str) -> str:
    words = set(ticket.lower().replace(".", " ").replace(",", " ").split())
    if words & {"refund", "charged", "invoice"}:
        return "billing"
    if words & {"crash", "error", "broken", "bug"}:
        return "bug"
    return "spam" if "lottery" in words else "question"


@checkpoint(retries=2)
def propose_refund(ticket: str) -> str:
    return f"Refund proposed for: {ticket}"


@checkpoint
def reproduce(ticket: str) -> dict[str, str]:
    return {"ticket": ticket, "steps": "1. open the app  2. follow the ticket"}


@checkpoint
def file_bug(report: dict[str, str]) -> str:
    return f"Bug filed: {report['ticket']} ({report['steps']})"


@checkpoint
def answer(ticket: str) -> str:
    return kitaru.llm(prompt=f"Answer this support question: {ticket}", model="fast")


@checkpoint
def send(message: str) -> str:
    return f"sent: {message}"


@flow
def triage(ticket: str = "The app shows an error when I log in.") -> str:
    kind = classify(ticket)
    if kind == "spam":
        return "dropped"
    if kind == "billing":
        message = propose_refund(ticket)
        if not kitaru.wait(name="approve_refund", question="Pay this refund?", schema=bool):
            return "refund refused"
    elif kind == "bug":
        report = reproduce(ticket)
        message = file_bug(report)
    else:
        message = answer(ticket)
    return send(message)
