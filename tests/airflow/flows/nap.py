"""Sleeps, then asks a question that nobody answers."""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def note(word: str) -> str:
    return word


@flow
def nap() -> str:
    first = note("before")
    kitaru.sleep(3)
    second = note("after")
    late = kitaru.wait(name="late", schema=str, deadline=3, default="nobody")
    return f"{first} {second} {late}"
