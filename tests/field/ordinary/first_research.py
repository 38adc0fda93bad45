"""Ordinary agent flows, first ten."""

import json
import logging
import time
from dataclasses import dataclass, field

import kitaru
from kitaru import checkpoint, flow

log = logging.getLogger(__name__)


@checkpoint
def plan_queries(topic: str) -> list:
    return [f"{topic} basics", f"{topic} news"]


@checkpoint(retries=2)
def search(query: str) -> list:
    return [f"{query} #{n}" for n in range(2)]


@checkpoint
def read_page(url: str) -> str:
    return "text of " + url


@checkpoint
def summarize(text: str) -> str:
    return text[:40]


@checkpoint
def write_report(topic: str, notes: list) -> str:
    return f"{topic}: {len(notes)}"


@checkpoint
def critique(text: str) -> dict:
    return {"ok": len(text) > 3, "why": "short"}


@checkpoint
def revise(text: str, why: str) -> str:
    return text + " " + why


@checkpoint
def publish(text: str) -> str:
    return "published " + text


@checkpoint
def cheap_model(prompt: str) -> str:
    if "hard" in prompt:
        raise ValueError("too hard")
    return "cheap " + prompt


@checkpoint
def strong_model(prompt: str) -> str:
    return "strong " + prompt


@checkpoint
def notify(who: str, text: str) -> None:
    return None


@flow
def research(topic: str = "kayaks") -> str:
    queries = plan_queries(topic)
    futures = [search.submit(q) for q in queries]
    hits = [hit for f in futures for hit in f.result()]
    pages = read_page.map(hits).result()
    notes = [summarize.submit(p) for p in pages]
    return write_report(topic, [n.result() for n in notes])


@flow
def research_tolerant(topic: str = "kayaks") -> str:
    """Failed searches are tolerated."""
    queries = plan_queries(topic)
    futures = {q: search.submit(q) for q in queries}
    hits, failed = [], []
    for query, future in futures.items():
        try:
            hits.extend(future.result())
        except Exception as error:
            log.warning("search failed: %s", error)
            failed.append(query)
    text = write_report(topic, hits)
    return publish(f"{text}, {len(failed)} failed")


@flow
def write_and_revise(topic: str = "kayaks") -> str:
    notes = search(topic)
    text = write_report(topic, notes)
    for attempt in range(3):
        review = critique(text)
        if review["ok"]:
            break
        text = revise(text, review["why"])
    else:
        log.info("gave up")
    return publish(text)


@flow
def revise_until_good(topic: str = "kayaks", limit: int = 4) -> str:
    text = write_report(topic, [])
    rounds = 0
    while rounds < limit:
        review = critique(text)
        if review["ok"]:
            break
        text = revise(text, review["why"])
        rounds += 1
    return publish(text)


@flow
def ask_with_fallback(prompt: str = "a hard one") -> str:
    try:
        answer = cheap_model(prompt)
    except ValueError:
        answer = strong_model(prompt)
    checked = critique(answer)
    if not checked["ok"]:
        answer = strong_model(prompt + "!")
    notify("team", answer)
    return answer


@flow
def ask_or_default(prompt: str = "a hard one") -> str:
    try:
        answer = cheap_model(prompt)
    except Exception:
        log.exception("model failed")
        answer = "I do not know"
    notify("user", answer)
    return answer


@flow
def approval(topic: str = "kayaks") -> str:
    draft = write_report(topic, search(topic))
    decision = kitaru.wait(name="approve", schema=bool)
    if not decision:
        notify("author", "rejected")
        return "rejected"
    notify("author", "accepted")
    return publish(draft)


@flow
def approval_rounds(topic: str = "kayaks") -> str:
    draft = write_report(topic, [])
    while True:
        answer = kitaru.wait(name="review", schema=str)
        if answer == "ok":
            break
        draft = revise(draft, answer)
    return publish(draft)


@flow
def compare_models(prompt: str = "x") -> str:
    cheap, strong = cheap_model.submit(prompt), strong_model.submit(prompt)
    results = {"cheap": cheap.result(), "strong": strong.result()}
    best = max(results, key=lambda name: len(results[name]))
    review = critique(results[best])
    return publish(json.dumps({"best": best, "ok": review["ok"]}))


@flow
def vote(prompt: str = "x", samples: int = 3) -> str:
    votes = [cheap_model.submit(f"{prompt} {n}") for n in range(samples)]
    answers = []
    for v in votes:
        try:
            answers.append(v.result())
        except ValueError:
            continue
    winner = max(set(answers), key=answers.count) if answers else strong_model(prompt)
    notify("judge", winner)
    return winner
