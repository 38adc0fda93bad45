"""Summarise something long: split, summarise the parts side by side, reduce until it is short."""

from kitaru import checkpoint, flow

WIDTH = 3


@checkpoint
def split(text: str, size: int) -> list[str]:
    words = text.split()
    return [" ".join(words[start : start + size]) for start in range(0, len(words), size)]


@checkpoint(cpu="1", memory="2Gi")
def summarise(part: str, words: int = 3) -> str:
    return " ".join(part.split()[:words])


@checkpoint
def merge(parts: list[str]) -> str:
    return " / ".join(parts)


@checkpoint
def title(text: str) -> str:
    return text.split()[0].title()


def grouped(parts: list[str]) -> list[str]:
    return [" ".join(parts[i : i + WIDTH]) for i in range(0, len(parts), WIDTH)]


@flow
def digest(text: str = "one two three four five six seven eight nine ten " * 6) -> str:
    parts = split(text, 8)
    summaries = [s.result() for s in [summarise.submit(p) for p in parts]]
    head = title.submit(summaries[0] if summaries else "Nothing")
    rounds = 0
    while len(summaries) > WIDTH:
        summaries = [f.result() for f in summarise.map(grouped(summaries))]
        rounds += 1
    body = merge(summaries)
    return f"{head.result()} ({rounds}): {body}"
