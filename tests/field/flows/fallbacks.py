"""An agent that falls back: from one model to another, and from what it booked to nothing."""

from __future__ import annotations

import logging

from kitaru import checkpoint, flow

log = logging.getLogger(__name__)


class Refused(Exception):
    """A model that does not answer."""


@checkpoint
def ask(question: str) -> str:
    if "hard" in question:
        raise Refused(f"{question} is too much")
    return f"yes, {question}"


@checkpoint
def ask_large(question: str, because: str = "") -> str:
    return f"large: {question} ({because})"


@checkpoint
def fetch(page: str) -> str:
    if page == "gone":
        raise LookupError(page)
    return page.upper()


@checkpoint
def mirror(page: str) -> str:
    return f"copy of {page}"


@checkpoint
def book(part: str) -> str:
    if part.startswith("full"):
        raise ValueError(f"{part} is booked out")
    return f"{part} booked"


@checkpoint
def cancel(booking: str) -> str:
    return f"{booking}, cancelled"


@flow
def travel(question: str, hotel: str) -> dict[str, object]:
    try:
        answer = ask(question)
    except Refused as error:
        log.warning("asking again: %s", error)
        answer = ask_large(question, because=str(error))
    else:
        answer = ask_large(answer)
    pages = [(page, fetch.submit(page)) for page in ("one", "gone", answer[:5])]
    texts = []
    for page, future in pages:
        try:
            texts.append(future.result())
        except LookupError:
            texts.append(mirror(page))
    flight = book("flight")
    try:
        room = book(hotel)
    except ValueError:
        return {"answer": answer, "texts": texts, "booked": cancel(flight)}
    return {"answer": answer, "texts": texts, "booked": [flight, room]}
