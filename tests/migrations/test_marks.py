"""What a migration cannot rewrite is marked, listed, or refused; nothing is dropped in silence."""

from __future__ import annotations

import pytest
from kitaru_compiler.migrations import migrate
from kitaru_compiler.migrations.rewriter import NotMigratable

from kitaru.wire.migrations import Library
from tests.cli.conftest import Kitaru, kitaru

__all__ = ["kitaru"]

TEMPORAL = """\
from datetime import timedelta
from temporalio import activity, workflow


async def beat() -> None:
    activity.heartbeat()


@activity.defn
async def work(x: int) -> int:
    await beat()
    return x


@workflow.defn
class Work:
    @workflow.run
    async def run(self, x: int) -> int:
        {body}
        return x
"""
PREFECT = """\
from prefect import flow, task
from prefect.futures import wait


@task({options})
def work(x: int) -> int:
    return x


@flow
def main(x: int) -> int:
    {body}
    return x
"""


def marks(library: Library, text: str) -> list[str]:
    return [mark.text for mark in migrate(library, text).marks]


@pytest.mark.parametrize(
    ("body", "mark"),
    [
        ("workflow.patched('two')", "`workflow.patched` has no equivalent that is certain"),
        ("await workflow.wait_condition(lambda: self.n > 2)", "the condition is not that a signal"),
        ("await workflow.execute_activity('work', x)", "the activity is not a function"),
        ("await workflow.sleep(86400)", "a long pause keeps its process up"),
        ("workflow.continue_as_new(x)", "`workflow.continue_as_new` has no equivalent"),
        ("await other(x)", "this coroutine runs in the flow"),
    ],
)
def test_what_has_no_equivalent_is_marked(body: str, mark: str) -> None:
    found = marks("temporal", TEMPORAL.format(body=body))
    assert any(text.startswith(mark) for text in found), found


def test_what_a_checkpoint_calls_keeps_its_event_loop() -> None:
    text = migrate("temporal", TEMPORAL.format(body="pass")).text
    assert "async def beat()" in text
    assert "await beat()" in text


def test_several_policies_of_one_activity_are_marked() -> None:
    call = "await workflow.execute_activity(work, x, start_to_close_timeout=timedelta({}))"
    body = f"{call.format('seconds=5')}\n        {call.format('hours=1')}"
    text = migrate("temporal", TEMPORAL.format(body=body))
    assert "@checkpoint(timeout=5)" in text.text
    assert [mark.text for mark in text.marks if "several timeouts" in mark.text]


def test_two_signals_awaited_at_once_are_marked() -> None:
    text = TEMPORAL.format(
        body="await workflow.wait_condition(lambda: self._a or self._b is not None)"
    ) + (
        "\n    @workflow.signal\n    def a(self) -> None:\n        self._a = True\n"
        "\n    @workflow.signal\n    def b(self, text: str) -> None:\n        self._b = text\n"
    )
    done = migrate("temporal", text)
    waits = 'kitaru.wait(name="a", schema=bool), kitaru.wait(name="b", schema=str)'
    assert f"a, b = {waits}" in done.text
    assert [mark for mark in done.marks if "one by one" in mark.text]


@pytest.mark.parametrize(
    ("options", "body", "mark"),
    [
        ("cache_policy=None", "pass", "`cache_policy=None` has no equivalent"),
        ("retry_delay_seconds=[1, 10]", "pass", "`retry_delay_seconds=[1, 10]`"),
        ("", "wait([work.submit(x)])", "`wait` has no equivalent that is certain"),
        ("", "main.serve(name='x')", "`main.serve` has no equivalent that is certain"),
    ],
)
def test_what_prefect_has_alone_is_marked(options: str, body: str, mark: str) -> None:
    found = marks("prefect", PREFECT.format(options=options, body=body))
    assert any(text.startswith(mark) for text in found), found


@pytest.mark.parametrize("library", ["dbos", "inngest", "prefect", "temporal", "zenml"])
def test_a_file_without_a_flow_is_refused(library: Library) -> None:
    with pytest.raises(NotMigratable, match="was found"):
        migrate(library, "print('hello')\n")


def test_a_flow_that_needs_an_event_loop_is_refused() -> None:
    body = "async for y in x:\n            pass"
    with pytest.raises(NotMigratable, match="async for"):
        migrate("temporal", TEMPORAL.format(body=body))


def test_the_command_marks_lists_and_ends_with_1(kitaru: Kitaru) -> None:
    path = kitaru.write("flow.py", TEMPORAL.format(body="workflow.patched('two')"))
    before = path.read_text(encoding="utf-8")
    shown = kitaru("migrate", "temporal", "flow.py", "--diff", code=1)
    assert "+    # MIGRATE: `workflow.patched`" in shown.out
    assert path.read_text(encoding="utf-8") == before
    done = kitaru("migrate", "temporal", "flow.py", code=1)
    assert "lines for you to decide" in done.err
    assert "# MIGRATE:" in path.read_text(encoding="utf-8")


def test_a_whole_migration_ends_with_0(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", PREFECT.format(options="", body="work(x)"))
    document = kitaru("migrate", "prefect", "flow.py", "--json").document
    assert document["marks"] == []
    assert kitaru("check", "flow.py").out == "flow.py: nothing to report\n"


def test_a_file_that_cannot_be_migrated_is_left_alone(kitaru: Kitaru) -> None:
    path = kitaru.write("flow.py", "print('hello')\n")
    assert "no Temporal workflow" in kitaru("migrate", "temporal", "flow.py", code=2).err
    assert path.read_text(encoding="utf-8") == "print('hello')\n"
    kitaru.write("bad.py", "def f(:\n")
    assert "KIT101" in kitaru("migrate", "temporal", "bad.py", code=1).err


@pytest.mark.parametrize(("option", "retries"), [("", 4), (", retries=0", 0)])
def test_steps_of_inngest_are_retried_as_often_as_before(option: str, retries: int) -> None:
    source = f"""\
import inngest

client = inngest.Inngest(app_id="shop")


async def work() -> int:
    return 1


@client.create_function(fn_id="main"{option})
async def main(ctx: inngest.Context) -> int:
    return await ctx.step.run("work", work)
"""
    assert f"@flow(retries={retries})" in migrate("inngest", source).text
