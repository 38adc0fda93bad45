"""Makes the store of a release that a later one must read: `python -m tests.stores.released FILE`.

Run once, by the code of that release; what it made is in `releases/` and is never made again.
"""

from __future__ import annotations

import sys
from collections import Counter

import kitaru
from kitaru import checkpoint, flow

EXEC = "released-1"

calls: Counter[str] = Counter()


@checkpoint(cache=False)
def draft(topic: str) -> str:
    calls["draft"] += 1
    return f"About {topic}. " * 10


@checkpoint(cache=False)
def large(size: int) -> str:
    calls["large"] += 1
    return "é" * size


@checkpoint(cache=False, retries=1)
def flaky() -> dict[str, object]:
    calls["flaky"] += 1
    if calls["flaky"] == 1:
        raise ValueError("not yet")
    return {"tries": calls["flaky"], "pair": (1, 2.5), "bytes": b"\x00\xff", "none": None}


@checkpoint(cache=False)
def publish(text: str) -> int:
    calls["publish"] += 1
    return len(text)


@flow(cache=False)
def review(topic: str) -> list[object]:
    text = draft(topic)
    sizes = [len(one.result()) for one in [large.submit(n) for n in (10, 70_000)]]
    kitaru.memory.set("topic", topic)
    found = flaky()
    kitaru.log(stage="asked")
    if not kitaru.wait(name="ok", question="Publish?", schema=bool):
        return []
    return [publish(text), sizes, found, kitaru.memory.get("topic")]


RESULT = [
    len("About kayaks. " * 10),
    [10, 70_000],
    {"tries": 2, "pair": (1, 2.5), "bytes": b"\x00\xff", "none": None},
    "kayaks",
]


def main() -> None:
    url = f"sqlite:{sys.argv[1]}"
    ended = review.options(store=url, exec_id="released-0").run("owls")
    ended.settle()
    kitaru.KitaruClient(url).executions.input("released-0", False).wait()
    calls.clear()
    review.options(store=url, exec_id=EXEC).run("kayaks").settle()


if __name__ == "__main__":
    main()
