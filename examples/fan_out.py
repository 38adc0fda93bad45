"""Process many documents concurrently: `.submit()` for one call, `.map()` for many.

A submitted call returns a future at once; `.result()` waits for it. Ids are assigned in the order
of the submits, so they do not depend on the order of completion. Locally, the calls run on threads;
in a pipeline, each call runs in a separate container.
"""

from kitaru import checkpoint, flow


@checkpoint
def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(".") if part.strip()]


@checkpoint(retries=1)
def summarise(part: str) -> str:
    return " ".join(part.split()[:3])


@checkpoint
def count_words(text: str) -> int:
    return len(text.split())


@checkpoint
def combine(summaries: list[str], words: int) -> str:
    return f"{words} words: " + "; ".join(summaries)


@flow
def digest(text: str = "One thing happened today. Two more followed. Then it rained.") -> str:
    parts = split(text)
    total = count_words.submit(text)
    summaries = [future.result() for future in summarise.map(parts)]
    return combine(summaries, total.result())
