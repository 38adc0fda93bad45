"""Lists of work: fan-outs of every kind, in a row, in an arm, one after the other."""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def pages(text: str) -> list[str]:
    return [page for page in text.split("/") if page]


@checkpoint(retries=1)
def classify(page: str) -> str:
    if page == "torn":
        raise ValueError(f"cannot read a {page} page")
    return "spam" if "win" in page else "mail"


@checkpoint
def words(page: str) -> int:
    return len(page.split())


@checkpoint(memory="256Mi")
def summarise(page: str, kind: str, length: int = 9) -> str:
    return f"{kind}: {page[:length]}"


@checkpoint
def digest(summaries: list[str], total: int) -> str:
    return f"{total} words; " + "; ".join(summaries)


@flow
def batch(text: str = "hello you/win now/how are you", length: int = 5, ask: bool = False) -> str:
    found = pages(text)
    counts = words.map(found)
    handles = []
    for page in found:
        handles.append(classify.submit(page))
    kinds = []
    for handle in handles:
        try:
            kinds.append(handle.result())
        except ValueError as error:
            kinds.append(str(error))
    total = sum(count.result() for count in counts)
    if ask:
        approved = kitaru.wait(name="approved", question=f"Continue with {kinds}?", schema=bool)
        lengths = {"length": length} if approved else {}
        summaries = summarise.map(found, kinds, **lengths).result()
    else:
        summaries = [summarise.submit(page, kind) for page, kind in zip(found, kinds, strict=True)]
    return digest(summaries, total)
