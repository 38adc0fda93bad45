"""Two branches that each ask, a choice, and an answer of more than one type."""

from typing import Literal

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def size(text: str) -> str:
    return "big" if len(text) > 5 else "small"


@checkpoint
def shout(text: str) -> str:
    return text.upper()


@checkpoint
def whisper(text: str) -> str:
    return text.lower()


@checkpoint
def ship(text: str, many: int, how: str, note: str | None) -> str:
    return f"{many} × {text}, {how}, {note}"


@flow
def order(text: str) -> str:
    if size(text) == "big":
        said = shout(text)
        bounds = {"type": "integer", "minimum": 3, "maximum": 9}
        many = kitaru.wait(name="many", question=f"How many of {said}?\n3 to 9.", schema=bounds)
    else:
        said = whisper(text)
        many = kitaru.wait(name="few", schema=int)
    how = kitaru.wait(name="how", question="Which way?", schema=Literal["ship", "fly"])
    note = kitaru.wait(name="note", schema={"anyOf": [{"type": "string"}, {"type": "null"}]})
    return ship(said, many, how, note)
