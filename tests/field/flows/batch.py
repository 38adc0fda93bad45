"""Classify a batch: in parallel, failures put aside, the doubtful ones shown to a person."""

import kitaru
from kitaru import checkpoint, flow

LABELS = ("billing", "bug", "praise")


class Unreadable(ValueError):
    pass


@checkpoint(retries=1)
def classify(text: str) -> tuple[str, float]:
    if not text.strip():
        raise Unreadable(f"nothing in {text!r}")
    for label, word in zip(LABELS, ("invoice", "crash", "love")):
        if word in text.lower():
            return label, 0.9
    return LABELS[len(text) % 3], 0.4


@checkpoint
def store(rows: list[tuple[str, str]]) -> dict[str, int]:
    return {label: sum(row[1] == label for row in rows) for label in LABELS}


@checkpoint
def notify(counts: dict[str, int], failed: list[str]) -> str:
    return f"{sum(counts.values())} stored, {len(failed)} failed"


@flow
def classify_all(texts: list[str] | None = None, threshold: float = 0.5) -> dict:
    if texts is None:
        texts = ["My invoice is wrong", "It does crash", "  ", "We love it", "Hello there"]
    if len(texts) == 0:
        return {"message": "nothing to do"}
    futures = classify.map(texts)
    rows, doubtful, failed = [], [], []
    for text, future in zip(texts, futures):
        try:
            label, sure = future.result()
        except Unreadable as problem:
            failed.append(str(problem))
            continue
        (rows if sure >= threshold else doubtful).append((text, label))
    if doubtful:
        shown = "\n".join(f"{label}: {text}" for text, label in doubtful)
        label = kitaru.wait(name="label", question=f"One label for all of\n{shown}", schema=str)
        rows += [(text, label) for text, _ in doubtful]
    counts = store(rows)
    return {"counts": counts, "failed": failed, "message": notify(counts, failed)}
