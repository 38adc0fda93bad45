"""Branches that nest, end early, wait and join: what the documents' shapes are for."""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def measure(n: int, share: float) -> int:
    return int(n * share * 2)


@checkpoint
def small(n: int) -> dict[str, list[int]]:
    return {"small": [n]}


@checkpoint
def large(n: int) -> str:
    return f"large {n}"


@checkpoint
def note(text: str, *, loud: bool = False) -> str:
    return text.upper() if loud else text


@flow
def routes(
    n: int, share: float = 0.5, strict: bool = False, opt: list[str] | None = None
) -> object:
    size = measure(n, share)
    if size < 2:
        found = small(size)
        if opt:
            return [found, opt, strict]
        label = "small"
    elif size < 10:
        extra = kitaru.wait(name="how_many", question="How many more?", schema=int)
        label = large(size + extra)
    else:
        label = large(size)
        if strict:
            label = note(label, loud=True)
            return note(label + "!")
    if len(label) > 7:
        label = note(label)
    return note(f"{label} done", loud=strict)
