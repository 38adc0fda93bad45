"""Compiled async flows have the result of a local run, when their steps are killed as well.

Each step is a process forked from one that has imported Kitaru. It is killed before or after its
first store operation, then at its second, and so on, until it ends by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_compiler.cut.profile import Profile
from kitaru_targets import registry

from kitaru.client import KitaruClient
from kitaru.wire.ids import idempotency_key
from kitaru.wire.plan import Granularity, Plan
from tests.differential.real import loaded
from tests.step.build import end_zygote, zygote

HEAD = """\
import asyncio
import os

import kitaru
from kitaru import aio, checkpoint, flow


def ran():
    file = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{kitaru.idempotency_key()}\\n".encode())
    os.close(file)


@checkpoint
async def draft(topic) -> str:
    ran()
    await asyncio.sleep(0.001)
    return f"About {topic}."


@checkpoint
async def check(text) -> int:
    ran()
    return len(text)


@checkpoint
def render(text) -> str:
    ran()
    return text.upper()


@checkpoint
async def broken(text) -> str:
    ran()
    # The calls beside it have completed by then: others would be cancelled in some runs only.
    await asyncio.sleep(0.3)
    raise ValueError(f"bad {text}")


@checkpoint
async def slow(text) -> str:
    ran()
    await asyncio.sleep(30)
    return text


async def section(topic) -> list:
    text = await draft(topic)
    return [text, await check(text)]


async def reviewed(topic) -> str:
    if await check(topic) > 3:
        return await draft(topic + "!")
    return topic
"""
FLOWS = {
    "steps, helpers and a plain checkpoint": """
@flow
async def main(topics: list):
    text = await draft(topics[0])
    page = render(text)
    return [page, await reviewed("kayaks"), await reviewed("a"), await check(page)]
""",
    "gather": """
@flow
async def main(topics: list):
    texts = await asyncio.gather(*[draft(topic) for topic in topics])
    sizes = await asyncio.gather(*(check(text) for text in texts), draft("x"))
    a, b = await asyncio.gather(draft("a"), check("b"))
    return [texts, sizes, a, b]
""",
    "gather with failures": """
@flow
async def main(topics: list):
    found = await asyncio.gather(broken(1), draft(2), broken(3), return_exceptions=True)
    shown = [str(one) for one in found]
    try:
        await asyncio.gather(draft("a"), broken("b"))
    except ValueError as error:
        shown.append(await draft(str(error)))
    return shown
""",
    "a gather that fails": """
@flow
async def main(topics: list):
    texts = await asyncio.gather(draft(1), broken(2), draft(3))
    return texts
""",
    "task groups": """
@flow
async def main(topics: list):
    async with asyncio.TaskGroup() as group:
        first = group.create_task(draft("one"))
        rest = [group.create_task(check(topic)) for topic in topics]
    text = await draft(first.result())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(draft("two"))
            group.create_task(broken("three"))
    except* ValueError as errors:
        text += str(len(errors.exceptions))
    return [text, sum([task.result() for task in rest]), await check(text)]
""",
    "tasks beside steps": """
@flow
async def main(topics: list):
    one, two = await asyncio.gather(section(topics[0]), section(topics[1]))
    later = asyncio.create_task(section("later"))
    text = await draft("beside")
    found = await later
    three = await asyncio.gather(section("three"))
    return [one, two, text, found, three, await check(text)]
""",
    "timeouts and cancellation": """
@flow
async def main(topics: list):
    text = await draft("before")
    try:
        async with asyncio.timeout(0.02):
            text = await slow(text)
    except TimeoutError:
        text = await draft("late")
    racing = [asyncio.create_task(slow(1)), asyncio.create_task(draft(2))]
    done, pending = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    won = [task.result() for task in done]
    ended = await asyncio.gather(*pending, return_exceptions=True)
    return [text, won, len(ended), await check(text)]
""",
    "futures": """
@flow
async def main(topics: list):
    sizes = await check.map(topics)
    pages = render.map(topics)
    text = await draft.submit("x")
    return [sizes, text, [await page for page in pages]]
""",
    "waits": """
@flow
async def main(topics: list):
    text = await draft(topics[0])
    ok = await aio.wait(name="ok")
    legal, editor, size = await asyncio.gather(
        aio.wait(name="legal", schema=str), aio.wait(name="editor", schema=str), check(text)
    )
    await aio.memory.set("last", text)
    return [ok, legal, editor, size, await aio.memory.get("last"), await draft("end")]
""",
}
CHILDREN = """
@flow
async def child(topic) -> list:
    return [await draft(topic), await check(topic)]

@flow
def failing(topic) -> str:
    raise ValueError(topic)
"""
FLOWS["children"] = (
    CHILDREN
    + """
@flow
async def main(topics: list):
    first = await aio.invoke(child, {"topic": topics[0]})
    found = await asyncio.gather(*[aio.invoke(child, {"topic": one}) for one in topics])
    later = await aio.invoke(child, {"topic": "later"}, wait=False)
    text = await draft("beside")
    try:
        await aio.invoke(failing, {"topic": "x"})
    except kitaru.errors.ChildFailed as error:
        text += error.status
    return [first, found, await check(text), await later]
"""
)
FLOWS["children of a plain flow"] = (
    CHILDREN
    + """
@flow
def main(topics: list):
    first = kitaru.invoke(child, {"topic": topics[0]})
    later = [kitaru.invoke(child, {"topic": one}, wait=False) for one in topics]
    page = render(first[0])
    found = [one.result() for one in later]
    return [first, page, found, render("end"), later[0].result()]
"""
)
INPUTS = {"topics": ["owls", "kayaks", "tea"]}
GRANULARITIES: tuple[Granularity, ...] = ("checkpoint", "fused", "single")


@pytest.fixture(scope="module", autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    end_zygote()


class Pipeline:
    """A compiled flow in a folder. Its steps run one after the other, as a pipeline runs them."""

    def __init__(self, folder: Path, source: str, granularity: Granularity, kills: bool) -> None:
        self.folder, self.kills = folder, kills
        self.has_children = "invoke(" in source
        (folder / "kitaru_build").mkdir(parents=True)
        (folder / "project.py").write_text(source, encoding="utf-8")
        compiled = compile_flow(
            folder / "project.py", "main", granularity=granularity, profile=_profile()
        )
        self.plan: Plan = compiled.plan
        self.steps_py = compiled.steps_py
        build = folder / "kitaru_build"
        (build / "steps.py").write_text(compiled.steps_py, encoding="utf-8")
        (build / "plan.json").write_text(self.plan.to_json(), encoding="utf-8")
        self.url = f"sqlite:{folder / 'store.db'}"
        self.killed = 0

    def run(self) -> Ended:
        """Run the pipeline to its end; answer its waits."""
        step, item = self.plan.steps[0].name, ""
        code = self._step(step, item)
        while code == 0 and (status := self._output("status")) in ("go", "waiting"):
            following = self._output("next")
            if status == "waiting":
                self._answer()
                # The answer starts the step again, which continues behind the wait.
                code = self._step(step, "")
                continue
            items = json.loads(self._output("items") or "[]")
            entry = self.plan.step(following).entry
            for fan in [s for s in self.plan.steps if s.per_item and s.entry == entry]:
                for one in items:
                    code = code or self._step(fan.name, one)
            step = following
            code = code or self._step(step, "")
        return ended(self.url, "e1", self.folder / "calls.txt")

    def _step(self, name: str, item: str) -> int:
        for moment in count(1) if self.kills else ():
            code = self._start(name, item, f"{('before', 'after')[moment % 2]}:{moment}")
            if code != -9:
                return code
            self.killed += 1
        return self._start(name, item, "")

    def _start(self, name: str, item: str, kill: str) -> int:
        arguments = ["step", "--plan", "kitaru_build/plan.json", "--step", name, "--run", "e1"]
        arguments += ["--store", self.url, "--item", item, "--items-file", "out/items"]
        arguments += ["--next-file", "out/next", "--status-file", "out/status"]
        if name == self.plan.steps[0].name:
            arguments += ["--input", f"topics={json.dumps(INPUTS['topics'])}"]
        program = "import os, sys\nfrom kitaru.runtime.__main__ import main\n"
        program += "from tests.step.killer import arm\n"
        # The children of a dry run of flows of its project run in the processes of its steps.
        program += f"os.environ['KITARU_MODE'] = {'dry-run' if self.has_children else ''!r}\n"
        program += f"os.environ['CALLS'] = {str(self.folder / 'calls.txt')!r}\n"
        program += f"arm({kill!r})\nsys.exit(main({arguments!r}))"
        return zygote(str(self.folder), str(self.folder / "log.txt"), "", program)

    def _output(self, name: str) -> str:
        return (self.folder / "out" / name).read_text(encoding="utf-8")

    def _answer(self) -> None:
        client = KitaruClient(self.url)
        for wait in client.executions.get("e1").waits:
            client.executions.input("e1", answer(wait.name), wait=wait.name)


def answer(wait: str) -> Any:
    return True if wait == "ok" else wait.upper()


class Ended:
    """What an execution left behind."""

    def __init__(self, status: str, result: Any, error: Any, calls: list[Any]) -> None:
        self.same = status, result, error, calls
        self.runs: Counter[str] = Counter()
        self.recorded: set[str] = set()


def ended(url: str, exec_id: str, calls: Path) -> Ended:
    view = KitaruClient(url).executions.get(exec_id)
    document = view.to_dict()
    error = document["error"] and (document["error"]["type"], document["error"]["message"])
    # If the flow fails, the calls beside the failing one may be recorded or cancelled.
    calls_of = [
        (one.id, one.kind, one.status, one.arguments_digest)
        for one in view.invocations
        if document["status"] == "completed"
    ]
    found = Ended(document["status"], document["result"], error, sorted(calls_of))
    found.runs = Counter(calls.read_text(encoding="utf-8").split())
    found.recorded = {idempotency_key(exec_id, one.id) for one in view.invocations}
    return found


def _profile() -> Profile:
    return registry.get("airflow").profile


def _local(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> Ended:
    folder.mkdir()
    path = folder / f"local_{folder.parent.name.replace('-', '_')}.py"
    path.write_text(source, encoding="utf-8")
    monkeypatch.setenv("CALLS", str(folder / "calls.txt"))
    url = f"sqlite:{folder / 'store.db'}"
    handle = loaded(path).main.options(store=url, exec_id="e1", cache=False).run(**INPUTS)
    client = KitaruClient(url)
    # More rounds than any flow here has waits.
    for _ in range(20):
        if handle.settle(60) != "waiting":
            break
        for wait in client.executions.get("e1").waits:
            client.executions.input("e1", answer(wait.name), wait=wait.name)
    return ended(url, "e1", folder / "calls.txt")


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", FLOWS)
def test_the_steps_do_what_a_local_run_does(
    name: str, granularity: Granularity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HEAD + FLOWS[name]
    local = _local(tmp_path / "local", source, monkeypatch)
    pipeline = Pipeline(tmp_path / "steps", source, granularity, kills=False)
    found = pipeline.run()
    assert found.same == local.same, pipeline.steps_py
    assert set(found.runs.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["checkpoint", "single"])
@pytest.mark.parametrize("name", FLOWS)
def test_killed_steps_do_what_a_local_run_does(
    name: str, granularity: Granularity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HEAD + FLOWS[name]
    local = _local(tmp_path / "local", source, monkeypatch)
    pipeline = Pipeline(tmp_path / "steps", source, granularity, kills=True)
    found = pipeline.run()
    assert found.same == local.same, pipeline.steps_py
    assert pipeline.killed
