"""Async checkpoints share one event loop: what a module creates once works in each of them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable

import pytest

from kitaru import checkpoint, flow
from tests.waiting import time_hangs

from .conftest import Script

token: contextvars.ContextVar[str] = contextvars.ContextVar("token", default="unset")


class Client:
    """Works only on the loop on which it was used first, like an HTTP client's pool."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.calls = 0

    async def get(self) -> int:
        loop = asyncio.get_running_loop()
        self.loop = self.loop or loop
        assert not self.loop.is_closed()
        assert self.loop is loop
        await asyncio.sleep(0)
        self.calls += 1
        return self.calls


class Shared:
    client = Client()
    lock: asyncio.Lock | None = None
    meeting: asyncio.Barrier | None = None


@checkpoint(cache=False)
async def fetch(url: str) -> int:
    return await Shared.client.get()


@checkpoint(cache=False)
async def locked(number: int) -> int:
    # A lock that several tasks wait for belongs to their loop.
    Shared.lock = Shared.lock or asyncio.Lock()
    async with Shared.lock:
        await asyncio.sleep(0)
    return number


@checkpoint(cache=False)
async def meets(number: int) -> int:
    Shared.meeting = Shared.meeting or asyncio.Barrier(3)
    await Shared.meeting.wait()
    return number


def test_a_client_lives_from_one_checkpoint_to_the_next_and_across_executions() -> None:
    Shared.client = Client()

    @flow
    def sequence() -> list[int]:
        return [fetch("a"), fetch.submit("b").result(), *fetch.map(["c", "d"]).result()]

    assert sorted(sequence.run().wait()) == [1, 2, 3, 4]
    assert sorted(sequence.run().wait()) == [5, 6, 7, 8]


def test_submitted_checkpoints_run_side_by_side_on_the_loop() -> None:
    Shared.lock = Shared.meeting = None

    @flow
    def parallel() -> list[int]:
        return [*meets.map([1, 2, 3]).result(), *locked.map([4, 5, 6]).result()]

    assert parallel.run().wait() == [1, 2, 3, 4, 5, 6]


def test_an_async_checkpoint_is_awaited_on_a_running_loop() -> None:
    Shared.client = Client()

    @flow
    def sequence() -> int:
        async def main() -> int:
            await asyncio.sleep(0)
            # On a running loop the call is awaited. The thread has none.
            return await fetch("a") + await asyncio.to_thread(locked, 2)

        return asyncio.run(main())

    async def script() -> int:
        return sequence.run().wait()

    assert asyncio.run(script()) == 3


def test_context_variables_of_the_caller_are_seen_and_not_changed() -> None:
    @checkpoint(cache=False)
    async def reads() -> str:
        found = token.get()
        token.set("changed")
        return found

    @flow
    def body() -> list[str]:
        token.set("mine")
        return [reads(), reads.submit().result(), token.get()]

    # A submitted call runs on a thread of its own, in a copy of the body's context.
    assert body.run().wait() == ["mine", "mine", "mine"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_ends_a_checkpoint_does_not_end_the_loop_of_the_others(error: BaseException) -> None:
    Shared.client = Client()

    @checkpoint(cache=False)
    async def breaks() -> None:
        raise error

    @flow
    def broken() -> None:
        breaks()

    @flow
    def works() -> int:
        return fetch("a")

    assert works.run().wait() == 1
    with pytest.raises(BaseException, match="failed"):
        broken.run().wait()
    assert works.run().wait() == 2


def test_a_timeout_cancels_the_coroutine_and_the_client_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled, hanging = threading.Event(), time_hangs(monkeypatch.setattr)
    Shared.client = Client()

    @checkpoint(cache=False, timeout=0.05)
    async def hangs() -> None:
        try:
            hanging.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @flow
    def body() -> list[int]:
        first = fetch("a")
        try:
            hangs()
        except Exception:
            return [first, fetch("b")]
        return []

    assert body.run().wait() == [1, 2]
    assert cancelled.wait(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_has_a_loop_of_its_own(script: Callable[[str], Script]) -> None:
    source = (
        "import asyncio, os, sys\nfrom kitaru import checkpoint, flow\n"
        "@checkpoint(cache=False)\nasync def ck(x):\n    await asyncio.sleep(0)\n    return x\n"
        "@flow\ndef f(x):\n    return ck(x)\n"
    )
    code, out, log = script(source).run(
        "import os\n"
        # One write for each line: what two processes print may be mixed otherwise.
        "show = lambda given: os.write(1, b'%d\\n' % flows.f.run(given).wait())\n"
        "show(1)\n"
        "pid = os.fork()\n"
        "show(2 if pid else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0)"
    )
    assert code == 0, log
    assert sorted(out.split()) == ["1", "2", "3"]


def test_the_loop_closes_at_exit_without_a_warning(script: Callable[[str], Script]) -> None:
    source = (
        "import asyncio\nfrom kitaru import checkpoint, flow\ntasks = []\n"
        "async def background():\n"
        "    try:\n        await asyncio.Event().wait()\n"
        "    finally:\n        print('background ended', flush=True)\n"
        "@checkpoint(cache=False)\nasync def ck(x):\n"
        "    tasks.append(asyncio.create_task(background()))\n"
        "    await asyncio.sleep(0)\n    return x\n"
        "@flow\ndef f(x):\n    return ck(x)\n"
    )
    code, out, log = script(source).run(
        "import warnings; warnings.simplefilter('always')\nprint(flows.f.run(1).wait(), flush=True)"
    )
    assert (code, out.split("\n"), log) == (0, ["1", "background ended"], "")


def test_asyncio_is_not_imported_without_an_async_checkpoint(
    script: Callable[[str], Script],
) -> None:
    source = (
        "from kitaru import checkpoint, flow\n@checkpoint\ndef ck(x):\n    return x\n"
        "@flow\ndef f(x):\n    return ck(x)\n"
    )
    code, out, log = script(source).run("print(flows.f.run(1).wait(), 'asyncio' in sys.modules)")
    assert (code, out) == (0, "1 False"), log
