"""Support, billing and approvals."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field

import kitaru
from kitaru import checkpoint, flow

logger = logging.getLogger(__name__)


@dataclass
class Ticket:
    number: int
    text: str
    tags: list = field(default_factory=list)


@dataclass
class Outcome:
    status: str
    detail: str = ""


class GatewayError(Exception):
    pass


@checkpoint
def fetch_ticket(number: int) -> Ticket:
    return Ticket(number, "my invoice is wrong")


@checkpoint
def fetch_page(cursor: int) -> dict:
    return {"items": [cursor, cursor + 1], "next": cursor + 1 if cursor < 2 else None}


@checkpoint
def categorise(text: str) -> str:
    return "billing" if "invoice" in text else "other"


@checkpoint
def sentiment(text: str) -> float:
    return 0.2 if "wrong" in text else 0.8


@checkpoint
def draft_reply(text: str, tone: str) -> str:
    return f"[{tone}] about {text}"


@checkpoint
def send_reply(number: int, text: str) -> str:
    return f"sent {number}"


@checkpoint
def escalate(number: int, reason: str) -> str:
    return f"escalated {number}: {reason}"


@checkpoint
def handle_billing(ticket: Ticket) -> str:
    return f"billing {ticket.number}"


@checkpoint
def handle_technical(ticket: Ticket) -> str:
    return f"technical {ticket.number}"


@checkpoint
def handle_other(ticket: Ticket) -> str:
    return f"other {ticket.number}"


HANDLERS = {"billing": handle_billing, "technical": handle_technical, "other": handle_other}


@checkpoint
def load_invoice(number: int) -> dict:
    return {"id": number, "amount": 120, "customer": "c1", "paid": number % 2 == 0}


@checkpoint
def charge_card(customer: str, amount: int) -> str:
    if amount > 500:
        raise GatewayError("declined")
    return f"receipt {customer} {amount}"


@checkpoint
def charge_bank(customer: str, amount: int) -> str:
    return f"debit {customer} {amount}"


@checkpoint
def refund(receipt: str) -> str:
    return "refunded " + receipt


@checkpoint
def book(receipt: str, account: str) -> str:
    return f"{account}:{receipt}"


@checkpoint
def notify(who: str, message: str) -> None:
    return None


@checkpoint
def audit(event: str) -> None:
    return None


@contextmanager
def timed(label: str):
    logger.info("start %s", label)
    try:
        yield
    finally:
        logger.info("end %s", label)


@flow
def dispatch_ticket(number: int = 7) -> str:
    ticket = fetch_ticket(number)
    kind = categorise(ticket.text)
    handler = HANDLERS.get(kind, handle_other)
    result = handler(ticket)
    notify("support", result)
    return result


@flow
def answer_ticket(number: int = 7) -> Outcome:
    ticket = fetch_ticket(number)
    if not ticket.text.strip():
        return Outcome("empty")
    mood = sentiment(ticket.text)
    if mood < 0.1:
        return Outcome("escalated", escalate(ticket.number, f"mood {mood:.1f}"))
    reply = draft_reply(ticket.text, "warm" if mood < 0.5 else "short")
    return Outcome("sent", send_reply(ticket.number, reply))


@flow
def triage_tags(number: int = 7) -> dict:
    ticket = fetch_ticket(number)
    kind, mood = categorise(ticket.text), sentiment(ticket.text)
    ticket.tags += [kind, "angry" if mood < 0.5 else "calm"]
    match (kind, mood):
        case ("billing", m) if m < 0.3:
            action = escalate(ticket.number, "angry about money")
        case ("billing", _):
            action = handle_billing(ticket)
        case (other, _):
            action = handle_other(ticket)
    return {"tags": ticket.tags, "action": action}


@flow
def all_tickets() -> list:
    cursor, seen = 0, []
    while cursor is not None:
        page = fetch_page(cursor)
        seen.extend(page["items"])
        cursor = page["next"]
    replies = [send_reply.submit(n, "we are on it") for n in seen]
    return [r.result() for r in replies]


@flow
def bill_customer(number: int = 3) -> str:
    invoice = load_invoice(number)
    if invoice["paid"]:
        audit(f"invoice {number} was paid")
        return "nothing to do"
    try:
        receipt = charge_card(invoice["customer"], invoice["amount"])
        entry = book(receipt, "sales")
    except GatewayError as error:
        logger.warning("card failed: %s", error)
        notify(invoice["customer"], "please check your card")
        return "failed"
    audit(f"booked {entry}")
    return entry


@flow
def bill_with_fallback(number: int = 3) -> str:
    invoice = load_invoice(number)
    try:
        receipt = charge_card(invoice["customer"], invoice["amount"] * 10)
    except GatewayError:
        receipt = charge_bank(invoice["customer"], invoice["amount"])
    return book(receipt, "sales")


@flow
def bill_or_raise(number: int = 3) -> str:
    invoice = load_invoice(number)
    try:
        receipt = charge_card(invoice["customer"], invoice["amount"])
        notify(invoice["customer"], f"you paid {invoice['amount']}")
    except Exception:
        logger.exception("billing of %s failed", number)
        raise
    return book(receipt, "sales")


@flow
def bill_and_undo(number: int = 3) -> str:
    invoice = load_invoice(number)
    receipt = charge_card(invoice["customer"], invoice["amount"])
    try:
        entry = book(receipt, "sales")
        notify("finance", entry)
    except Exception as error:
        refund(receipt)
        raise RuntimeError(f"billing of {number} failed") from error
    return entry


@flow
def bill_with_retries(number: int = 3) -> str:
    invoice = load_invoice(number)
    last = None
    for attempt in range(1, 4):
        try:
            receipt = charge_card(invoice["customer"], invoice["amount"])
            break
        except GatewayError as error:
            last = str(error)
            audit(f"attempt {attempt} failed: {last}")
    else:
        return f"gave up: {last}"
    return book(receipt, "sales")


@flow
def bill_many(numbers: list = [1, 2, 3]) -> dict:
    invoices = load_invoice.map(numbers).result()
    open_ones = [i for i in invoices if not i["paid"]]
    receipts = {i["id"]: charge_card.submit(i["customer"], i["amount"]) for i in open_ones}
    done = {number: receipt.result() for number, receipt in receipts.items()}
    audit(f"{len(done)} of {len(invoices)} billed")
    return done


@flow
def approve_refund(number: int = 3) -> str:
    invoice = load_invoice(number)
    if invoice["amount"] > 100:
        accepted = kitaru.wait(name="ok", schema=bool, question=f"Refund {invoice['amount']}?")
        if not accepted:
            notify(invoice["customer"], "no refund")
            return "rejected"
    result = refund(f"receipt {number}")
    notify(invoice["customer"], result)
    return result


@flow
def approve_by_two(number: int = 3) -> str:
    invoice = load_invoice(number)
    for role in ("finance", "legal"):
        notify(role, f"please approve {invoice['id']}")
        if not kitaru.wait(name="ok", schema=bool):
            audit(f"{role} said no")
            return f"rejected by {role}"
    return refund(f"receipt {number}")


@flow
def close_month(accounts: list = ["sales", "costs"]) -> str:
    with timed("closing"):
        entries = [book("closing", account) for account in accounts]
        audit(f"{len(entries)} accounts closed")
    notify("finance", ", ".join(entries))
    return entries[0]


@flow
def reply_in_tone(number: int = 7) -> str:
    ticket = fetch_ticket(number)

    def reply(tone: str) -> str:
        return draft_reply(ticket.text, tone)

    warm, short = reply("warm"), reply("short")
    best = warm if len(warm) < len(short) else short
    return send_reply(ticket.number, best)
