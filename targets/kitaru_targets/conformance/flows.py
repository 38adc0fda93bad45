"""The flows of the conformance kit: each shows one thing that a target has to do."""

import asyncio
import os
from pathlib import Path
from typing import Any

import kitaru
from kitaru import checkpoint, flow


def mark(text: str) -> None:
    """Write a line for each call of a checkpoint, which shows whether a call was repeated."""
    with Path(os.environ["CONFORMANCE_CALLS"]).open("a") as file:
        file.write(f"{text}\n")


@checkpoint
def step(name: str, value: Any = None) -> Any:
    mark(name)
    return value


@checkpoint
def double(number: int) -> int:
    mark(f"double {number}")
    return 2 * number


@checkpoint(retries=2, retry_delay=0)
def flaky(name: str) -> str:
    mark(name)
    if Path(os.environ["CONFORMANCE_CALLS"]).read_text().count(name) < 3:
        raise ConnectionError("not yet")
    return name


@checkpoint
def failing(text: str) -> str:
    raise ValueError(f"no {text}")


@flow
def row(text: str, number: int = 3, part: float = 0.5, flag: bool = True) -> list[Any]:
    """Steps in a row, and inputs of each native type."""
    first = step("first", [text, number, part, flag])
    second = step("second", len(first))
    return [*step("third", first), second]


@flow
def documents(items: list[Any], table: dict[str, Any] | None = None) -> dict[str, Any]:
    """Inputs that are JSON documents."""
    return {"items": step("items", items), "table": step("table", table)}


@flow
def branches(kind: str) -> str:
    """Arms with several steps, an arm without one, and a return in an arm."""
    found = step("classify", kind)
    if found == "long":
        text = step("begin", "a")
        text = text + step("end", "b")
    elif found == "early":
        return "early " + str(step("leave"))
    elif found == "empty":
        text = "nothing"
    else:
        text = step("other", found)
    return str(step("send", text))


@flow
def nested(a: bool, b: bool, c: bool) -> str:
    """Conditions in conditions."""
    if step("a", a):
        if step("b", b):
            text = step("ab", "ab")
            if step("c", c):
                text = step("abc", "abc")
        else:
            text = step("only a", "a")
    else:
        text = "none"
    return str(step("last", text))


@flow
def review(topic: str) -> str:
    """A wait between steps, and one in an arm."""
    draft = step("draft", topic)
    if not kitaru.wait(name="approve", question="Publish?", schema=bool):
        reason = kitaru.wait(name="reason", question="Why not?", schema=str)
        return f"rejected: {reason}"
    return str(step("publish", draft))


@flow
def rounds(most: int) -> list[str]:
    """A loop with a wait in it, which stays in one step."""
    texts = []
    for number in range(most):
        texts.append(step(f"round {number}", f"text {number}"))
        if kitaru.wait(name=f"good_{number}", question="Good?", schema=bool):
            break
    return [*texts, step("after", "done")]


@flow
def fan_out(numbers: list[int]) -> int:
    """A list of calls, which may be empty."""
    return int(step("sum", sum(future.result() for future in double.map(numbers))))


@flow
def retried() -> str:
    """A step that fails twice."""
    return str(step("after", flaky("flaky")))


@flow
def failed(text: str) -> str:
    """A flow that fails in a step."""
    return str(step("never", failing(step("before", text))))


@flow
def caught(text: str) -> str:
    """A failure that the flow handles."""
    try:
        failing(text)
    except ValueError as error:
        return str(step("handled", str(error)))
    return "not handled"


@flow
def stored(text: str) -> Any:
    """Memory, an artifact, and a note."""
    kitaru.memory.set("text", step("first", text), scope="namespace:conformance")
    kitaru.save("copy", {"text": text})
    kitaru.log(text=text)
    return step("second", kitaru.memory.get("text", scope="namespace:conformance"))


@flow
async def gathered(numbers: list[int]) -> list[int]:
    """An async flow with calls at the same time."""
    found = await asyncio.gather(*(asyncio.to_thread(len, "ab") for _ in numbers))
    first = step("first", sum(found))
    return [first, *step("second", numbers)]
