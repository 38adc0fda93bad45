"""Correct and incorrect uses of flows, for the type checkers.

An incorrect use has a `type: ignore` with the error's code. If mypy accepted the use, the comment
would be reported as unused. `test_types.py` compares the lines with those that pyright reports.
"""

from __future__ import annotations

import asyncio
from typing import assert_type

from kitaru import Future, Handle, aio, checkpoint, flow


@checkpoint
async def ask(x: int) -> str:
    return str(x)


@checkpoint
def double(x: int) -> int:
    return 2 * x


class Tools:
    @checkpoint
    def look(self, x: int) -> str:
        return str(x)

    @checkpoint
    async def ask(self, x: int) -> str:
        return str(x)


@checkpoint(retries=3)
def words(n: int, *, word: str = "") -> list[str]:
    return [word] * n


@flow
async def body(n: int) -> str:
    assert_type(await ask(1), str)
    assert_type(double(1), int)
    assert_type(ask.submit(1), Future[str])
    assert_type(double.submit(1), Future[int])
    assert_type(await ask.submit(1), str)
    assert_type(ask.submit(1).result(), str)
    assert_type(await ask.map([1]), list[str])
    assert_type(await double.map([1]), list[int])
    assert_type(await asyncio.gather(ask(1), double.submit(2)), tuple[str, int])
    assert_type(await aio.llm("text"), str)
    assert_type(await aio.llm("text", schema=int), int)
    assert_type(await aio.memory.set("key", 1), int)
    assert_type(await aio.memory.list(), list[str])
    await double(1)  # type: ignore[misc]
    await ask("one")  # type: ignore[arg-type]
    aio.llm("text", modle="fast")  # type: ignore[call-overload]
    asyncio.create_task(double(1))  # type: ignore[arg-type] # noqa: RUF006
    assert_type(await Tools().ask(1), str)
    return await ask(n)


@flow
def plain(n: int) -> int:
    tools = Tools()
    assert_type(tools.look(1), str)
    assert_type(tools.look.submit(1), Future[str])
    assert_type(tools.ask.submit(1), Future[str])
    assert_type(words(1, word="a"), list[str])
    assert_type(words.submit(1).result(), list[str])
    assert_type([one.result() for one in words.map([1])], list[list[str]])
    words("one")  # type: ignore[arg-type]
    words(1, text="a")  # type: ignore[call-arg]
    tools.look("one")  # type: ignore[arg-type]
    return double(n)


@flow(cache=True)
def mapping(n: int) -> dict[str, int]:
    return {"n": n}


async def callers() -> None:
    assert_type(body.run(1), Handle[str])
    assert_type(plain.run(1), Handle[int])
    assert_type(mapping.run(1), Handle[dict[str, int]])
    assert_type(await body.run(1), str)
    assert_type(body.run(1).wait(), str)
    assert_type(body.resume("id"), Handle[str])
    assert_type(body.replay("id", start="ask"), Handle[str])
    assert_type(body.options(cache=False).run(1), Handle[str])
    assert_type(body.invoke(1), Handle[str])
    body.run("one")  # type: ignore[call-overload]
    body.replay("id", begin="ask")  # type: ignore[call-overload]
