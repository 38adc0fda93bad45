"""Ordinary agent flows: fan-out and fan-in, retries, documents."""

from concurrent.futures import as_completed

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def fetch(url: str) -> str:
    if "bad" in url:
        raise ConnectionError(url)
    return "page " + url


@checkpoint
def mirror(url: str) -> str:
    return "mirror " + url


@checkpoint
def embed(text: str) -> list:
    return [len(text)]


@checkpoint
def index(vectors: list) -> str:
    return f"index of {len(vectors)}"


@checkpoint
def answer(question: str, context: list) -> str:
    return f"{question}: {len(context)}"


@checkpoint
def grade(text: str) -> float:
    return len(text) / 10


@checkpoint
def title(text: str) -> str:
    return text.title()


@checkpoint
def translate(text: str, language: str) -> str:
    return f"{language}:{text}"


@checkpoint
def book_flight(city: str) -> str:
    return "flight " + city


@checkpoint
def book_hotel(city: str) -> str:
    if city == "nowhere":
        raise LookupError(city)
    return "hotel " + city


@checkpoint
def cancel_flight(ref: str) -> str:
    return "cancelled " + ref


@checkpoint
def charge(amount: int) -> str:
    return f"charged {amount}"


@flow
def two_gathers(urls: list = ["a", "b"]) -> dict:
    pages = fetch.map(urls)
    mirrors = [mirror.submit(u) for u in urls]
    return {
        "pages": pages.result(),
        "mirrors": [m.result() for m in mirrors],
    }


@flow
def zipped(urls: list = ["a", "b"]) -> list:
    ids = [fetch.submit(u) for u in urls]
    copies = [mirror.submit(u) for u in urls]
    pairs = list(zip([f.result() for f in ids], [f.result() for f in copies]))
    return [title(a + b) for a, b in pairs]


@flow
def zip_results(urls: list = ["a", "b"]) -> dict:
    futures = [fetch.submit(u) for u in urls]
    found = dict(zip(urls, [f.result() for f in futures]))
    return {"index": index([found]), "n": len(found)}


@flow
def gather_in_call(urls: list = ["a", "b"]) -> str:
    futures = [fetch.submit(u) for u in urls]
    return index([embed(f.result()) for f in futures])


@flow
def rag(question: str = "why", urls: list = ["a"]) -> str:
    pages = [f.result() for f in [fetch.submit(u) for u in urls]]
    vectors = embed.map(pages)
    idx = index(vectors.result())
    text = answer(question, [idx])
    if grade(text) < 0.5:
        text = answer(question + " please", [idx])
    return text


@flow
def fallback_per_page(urls: list = ["a", "bad"]) -> list:
    pages = []
    for url in urls:
        try:
            pages.append(fetch(url))
        except ConnectionError:
            pages.append(mirror(url))
    return [title(p) for p in pages]


@flow
def fan_fallback(urls: list = ["a", "bad"]) -> str:
    futures = [(u, fetch.submit(u)) for u in urls]
    pages = []
    for url, future in futures:
        try:
            pages.append(future.result())
        except ConnectionError:
            pages.append(mirror(url))
    return index(pages)


@flow
def saga(city: str = "Rome") -> str:
    flight = book_flight(city)
    try:
        hotel = book_hotel(city)
    except LookupError:
        cancel_flight(flight)
        return "no hotel"
    receipt = charge(100)
    return f"{flight}, {hotel}, {receipt}"


@flow
def saga_undo(city: str = "Rome") -> str:
    undo = []
    try:
        flight = book_flight(city)
        undo.append(lambda: cancel_flight(flight))
        hotel = book_hotel(city)
        return charge(100)
    except Exception:
        for step in reversed(undo):
            step()
        raise


@flow
def translations(text: str = "x") -> dict:
    out = {}
    for language in ("de", "fr", "it"):
        out[language] = translate(text, language)
    out["title"] = title(text)
    return out


@flow
def translations_parallel(text: str = "x", languages: list = ["de", "fr"]) -> dict:
    jobs = {lang: translate.submit(text, lang) for lang in languages}
    done = {lang: job.result() for lang, job in jobs.items()}
    scores = {lang: grade.submit(t) for lang, t in done.items()}
    best = max(scores, key=lambda lang: scores[lang].result())
    return {"best": best, "title": title(done[best])}


@flow
def retry_by_hand(url: str = "a") -> str:
    for attempt in range(3):
        try:
            page = fetch(url)
            break
        except ConnectionError:
            if attempt == 2:
                raise
    return title(page)


@flow
def best_of(question: str = "x") -> str:
    drafts = [answer.submit(question, [n]) for n in range(3)]
    texts = [d.result() for d in drafts]
    scores = [grade(t) for t in texts]
    best, _ = max(zip(texts, scores), key=lambda pair: pair[1])
    return title(best)


@flow
def batched_results(urls: list = ["a", "b"]) -> int:
    futures = [fetch.submit(u) for u in urls]
    good = 0
    for f in futures:
        page = f.result()
        if grade(page) > 0.2:
            good += 1
    kitaru.save("good", good) if hasattr(kitaru, "save") else None
    return good


@flow
def conditional_fan(urls: list = ["a", "b"], deep: bool = True) -> str:
    if deep:
        futures = [fetch.submit(u) for u in urls]
        pages = [f.result() for f in futures]
    else:
        pages = [fetch(urls[0])]
    return index(pages)


@flow
def unpacked(url: str = "a") -> str:
    page, copy = [f.result() for f in (fetch.submit(url), mirror.submit(url))]
    shout = lambda text: title(text)
    return answer(shout(page), [shout(copy)])


@flow
def join_text(first: list = ["a"], n: str = "z") -> str:
    pages = fetch.map(first)
    second = title.map(pages.result())
    return index(second.result() + [n]) + answer(n, pages.result())
