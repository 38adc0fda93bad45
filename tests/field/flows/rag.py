"""Answer from documents: split, embed, retrieve, answer; say so when nothing fits."""

from __future__ import annotations

import math
from collections import Counter

import kitaru
from kitaru import checkpoint, flow

DOCUMENTS = {
    "tents.md": "A tent needs pegs. Pegs hold the tent in wind. Tents dry in the sun.",
    "boats.md": "A kayak needs a paddle. A vest is worn in every boat.",
    "food.md": "Soup keeps you warm. Boil water before you drink it.",
}


def tokens(text: str) -> Counter[str]:
    return Counter(word.strip(".?!").lower() for word in text.split())


@checkpoint
def chunks_of(name: str) -> list[dict[str, str]]:
    parts = [part.strip() for part in DOCUMENTS[name].split(".") if part.strip()]
    return [{"source": name, "text": part} for part in parts]


@checkpoint(cpu="2", memory="4Gi")
def embed(texts: list[str]) -> list[dict[str, int]]:
    return [dict(sorted(tokens(text).items())) for text in texts]


@checkpoint
def answer(question: str, context: list[str]) -> str:
    return f"{question} → {'; '.join(context)}"


@checkpoint
def judge(question: str, text: str) -> float:
    return len(tokens(question) & tokens(text)) / 10


def similarity(one: dict[str, int], other: dict[str, int]) -> float:
    shared = sum(one[word] * other[word] for word in one if word in other)
    lengths = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
    return shared / lengths if lengths else 0.0


def best(question: dict[str, int], chunks: list, vectors: list, top: int) -> list[tuple]:
    ranked = sorted(
        ((similarity(question, vector), chunk["text"]) for chunk, vector in zip(chunks, vectors)),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return [pair for pair in ranked[:top] if pair[0] > 0]


@flow
def ask(question: str = "What does a kayak need?", top: int = 2) -> dict:
    chunks: list[dict[str, str]] = []
    for name in ("tents.md", "boats.md", "food.md"):
        chunks += chunks_of(name)
    *vectors, asked = embed([*(c["text"] for c in chunks), question])
    if not (found := best(asked, chunks, vectors, top)):
        return {"answer": "I do not know.", "sources": [], "score": 0.0}
    context = [text for _, text in found]
    text = answer(question, context)
    score = judge(question, text)
    if score < 0.2 and kitaru.wait(name="accept", question=f"Only {score:.0%} sure. Send?"):
        score = 1.0
    sources = sorted({c["source"] for c in chunks if c["text"] in context})
    return {"answer": text, "sources": sources, "score": score}
