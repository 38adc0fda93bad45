"""Ingestion, reports and model training."""

import time
from datetime import date

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def list_documents(source: str, page: int = 0) -> list:
    return [f"{source}/{page}/{n}" for n in range(2)] if page < 2 else []


@checkpoint(retries=2)
def download(path: str) -> str:
    if "broken" in path:
        raise OSError(path)
    return f"text of {path}"


@checkpoint
def split(text: str) -> list:
    return text.split()


@checkpoint
def embed(chunk: str) -> list:
    return [len(chunk), 1]


@checkpoint
def upsert(vectors: list, index: str = "main") -> int:
    return len(vectors)


@checkpoint
def query_index(question: str, top: int = 3) -> list:
    return ["a passage", "another"]


@checkpoint
def rerank(question: str, passages: list) -> list:
    return sorted(passages)


@checkpoint
def generate(question: str, passages: list) -> str:
    return f"{question} {len(passages)}"


@checkpoint
def grounded(text: str, passages: list) -> bool:
    return len(passages) > 1


@checkpoint
def read_table(name: str) -> list:
    return [{"region": "north", "sum": 3}, {"region": "south", "sum": 4}]


@checkpoint
def chart(rows: list) -> str:
    return f"chart of {len(rows)}"


@checkpoint
def render(title: str, parts: list) -> str:
    return title + ": " + " ".join(parts)


@checkpoint
def mail(to: str, text: str) -> str:
    return f"mailed {to}"


@checkpoint(memory="2Gi")
def train(data: list, rate: float) -> dict:
    return {"rate": rate, "loss": 1 / rate}


@checkpoint
def evaluate(model: dict, data: list) -> float:
    return model["loss"]


@checkpoint
def deploy(model: dict) -> str:
    return f"deployed {model['rate']}"


class Store:
    def __init__(self, name: str) -> None:
        self.name = name
        self.written = 0

    def save(self, vectors: list) -> int:
        self.written += upsert(vectors, self.name)
        return self.written


@flow
def ingest(source: str = "wiki") -> int:
    paths = list_documents(source)
    texts = download.map(paths).result()
    chunks = [c for text in texts for c in text.split()]
    vectors = embed.map(chunks)
    return upsert(vectors.result())


@flow
def ingest_pages(source: str = "wiki") -> int:
    page, total = 0, 0
    while paths := list_documents(source, page):
        texts = [download(p) for p in paths]
        total += upsert([embed(t) for t in texts])
        page += 1
    return total


@flow
def ingest_tolerant(paths: list = ["a", "broken"]) -> dict:
    jobs = {path: download.submit(path) for path in paths}
    texts, failed = [], []
    for path, job in jobs.items():
        try:
            texts.append(job.result())
        except OSError as error:
            failed.append(f"{path}: {error}")
    stored = upsert(embed.map(texts).result()) if texts else 0
    if failed:
        mail("ops", "\n".join(failed))
    return {"stored": stored, "failed": failed}


@flow
def ingest_one(path: str = "a") -> str:
    try:
        text = download(path)
        chunks = split(text)
        vectors = embed.map(chunks).result()
        count = upsert(vectors)
    except OSError:
        return f"{path} is missing"
    return f"{count} chunks"


@flow
def ingest_into_store(paths: list = ["a", "b"]) -> int:
    store = Store("main")
    texts = download.map(paths).result()
    for text in texts:
        store.save([embed(text)])
    return store.written


@flow
def ask_documents(question: str = "why?") -> dict:
    passages = query_index(question)
    if not passages:
        return {"answer": None, "sources": []}
    passages = rerank(question, passages)[:2]
    answer = generate(question, passages)
    if not grounded(answer, passages):
        answer = generate(f"{question} (only from the sources)", passages)
    return {"answer": answer, "sources": [p.upper() for p in passages]}


@flow
def ask_rewritten(question: str = "why?") -> str:
    variants = [question, question.lower(), f"about {question}"]
    hits = [query_index.submit(v, top=5) for v in variants]
    merged = sorted({p for h in hits for p in h.result()})
    return generate(question, rerank(question, merged))


@flow
def ask_until_grounded(question: str = "why?") -> str:
    top = 2
    while True:
        passages = query_index(question, top)
        answer = generate(question, passages)
        if grounded(answer, passages) or top > 8:
            return answer
        top *= 2


@flow
def weekly_report(week: int = 12) -> str:
    sales, costs = read_table.submit("sales"), read_table.submit("costs")
    charts = chart.map([sales.result(), costs.result()]).result()
    text = render(f"Week {week}", charts)
    return mail("board", text)


@flow
def regional_reports(regions: list = ["north", "south"]) -> list:
    rows = read_table("sales")
    sent = []
    for region in regions:
        own = [r for r in rows if r["region"] == region]
        if not own:
            continue
        sent.append(mail(region, render(f"{region} {sum(r['sum'] for r in own)}", [chart(own)])))
    return sent


@flow
def report_by_kind(kind: str = "chart") -> str:
    rows = read_table("sales")
    match kind:
        case "chart":
            body = chart(rows)
        case "table":
            body = render("table", [str(r) for r in rows])
        case _:
            raise ValueError(f"no report of kind {kind}")
    return mail("board", body)


@flow
def sweep(rates: list = [0.1, 0.5]) -> str:
    data = read_table("training")
    models = [train.submit(data, rate) for rate in rates]
    trained = [m.result() for m in models]
    scores = [evaluate(model, data) for model in trained]
    best = trained[scores.index(min(scores))]
    if min(scores) > 5:
        return "nothing good enough"
    return deploy(best)


@flow
def train_then_ask(rate: float = 0.5) -> str:
    data = read_table("training")
    model = train(data, rate)
    score = evaluate(model, data)
    kitaru.wait(name="ok", schema=bool) if score > 1 else None
    message = f"model {model['rate']} has {score:.2f}"
    mail("team", message)
    return deploy(model)
