"""Flows that start when executions of others fail, or ask: `on_failure=` and `on_waiting=`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru import KitaruClient, errors, flow
from kitaru.ops.dispatch import Dispatcher
from kitaru.ops.execution_events import ExecutionEvents
from kitaru.runtime.journal import launches
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire.events import FAILED, WAITING

FLOWS = {
    "paying": """
import kitaru
from kitaru import flow

@flow(on_failure="notify", on_waiting="asked@stable")
def paying(amount: int) -> int:
    if amount < 0:
        raise ValueError(f"{amount} is negative")
    return kitaru.wait(name="approve", schema=int, question=f"Pay {amount}?")
""",
    "notify": """
from kitaru import flow

@flow(on_failure="notify")
def notify(exec_id: str, error: dict) -> str:
    raise RuntimeError("the pager does not answer")
""",
    "asked": """
from kitaru import flow

@flow
def asked(event: dict, question: str, wait: str) -> str:
    return question
""",
    "everything": f"""
from kitaru import flow

@flow(on="{FAILED}", where="data.flow != 'notify' && data.error.type.endsWith('ValueError')")
def everything(flow: str) -> str:
    return flow
""",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    for name, text in FLOWS.items():
        (tmp_path / f"{name}.py").write_text(text)
    return {name: str(tmp_path / f"{name}.py") for name in FLOWS}


def _fail(client: KitaruClient, amount: int, id: str) -> str:
    client.deployments.invoke("paying", {"amount": amount}, exec_id=id).settle()
    return id


def _started(store: Store) -> dict[str, str]:
    """Return the flows of the executions that events started, by the event's name and id."""
    places = [key.split("/")[1] for key in store.list("x/") if key.endswith("/launch")]
    found = [launches.recall(store, one) for one in places]
    return {f"{one.flow} {one.event}": one.tag for one in found if one and one.event}


def test_a_failure_and_a_question_start_flows(store: str, files: dict[str, str]) -> None:
    client, opened = KitaruClient(), open_store(store)
    client.deployments.deploy(files["notify"], tag="default")
    client.deployments.deploy(files["asked"], tag="stable")
    client.deployments.deploy(files["paying"], tag="default")
    client.deployments.deploy(files["everything"], tag="default")
    (trigger,) = client.events.triggers("paying")
    assert (trigger.events.on_failure, trigger.events.on_waiting) == ("notify", "asked@stable")
    _fail(client, -1, "failing")
    _fail(client, 5, "asking")
    Dispatcher(opened).once()
    # The failure of `notify` starts nothing, although it declares that.
    expected = {
        f"notify {FAILED}/failing/f-00000002": "default",
        f"everything {FAILED}/failing/f-00000002": "default",
        f"asked {WAITING}/asking/w-approve-000001": "stable",
    }
    assert _started(opened) == expected
    (event,) = client.events.list(FAILED)
    assert event.by == "execution failing"
    assert event.data["error"]["message"] == "-1 is negative"
    assert {one.kind for one in client.events.get(FAILED, event.id).effects} == {"start"}
    (question,) = client.events.list(WAITING)
    assert (question.data["question"], question.data["wait"]) == ("Pay 5?", "approve")
    results = {
        one.flow: client.executions.get(one.exec_id).status
        for one in client.events.get(WAITING, question.id).effects
    }
    assert {name: str(status) for name, status in results.items()} == {"asked": "completed"}
    # Nothing starts again, not even after a failure of the same execution is announced again.
    Dispatcher(opened).once()
    assert ExecutionEvents(opened).look() == 2
    assert _started(opened) == expected


def test_what_happened_long_before_starts_nothing(
    store: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, opened = KitaruClient(), open_store(store)
    monkeypatch.setattr("kitaru.ops.triggers._BEFORE_SECONDS", 0.0)
    plain = Path(files["paying"])
    text = plain.read_text()
    plain.write_text(text.replace('on_failure="notify", on_waiting="asked@stable"', ""))
    client.deployments.deploy(str(plain), tag="default")
    _fail(client, -1, "earlier")
    assert ExecutionEvents(opened).look() == 0
    plain.write_text(text)
    client.deployments.deploy(str(plain), tag="default")
    _fail(client, -1, "later")
    sender = ExecutionEvents(opened)
    assert sender.look() == 1
    (event,) = client.events.list(FAILED)
    assert event.data["exec_id"] == "later"
    # The flow that it names is not deployed: nothing starts, and the event says why.
    Dispatcher(opened).once()
    (effect,) = client.events.get(FAILED, event.id).effects
    assert (effect.kind, "notify" in effect.why) == ("refuse", True)


def test_a_local_run_starts_flows_too(store: str, files: dict[str, str]) -> None:
    client, opened = KitaruClient(), open_store(store)
    client.deployments.deploy(files["notify"], tag="default")
    client.deployments.deploy(files["paying"], tag="default")

    @flow(name="paying")
    def undeployed(amount: int) -> int:
        raise ValueError(f"{amount} is negative")

    handle = undeployed.run(-1)
    with pytest.raises(errors.FlowError, match="negative"):
        handle.wait()
    Dispatcher(opened).once()
    assert list(_started(opened)) == [f"notify {FAILED}/{handle.exec_id}/f-00000002"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('on_failure="a b"', "cannot be the name of a flow"),
        ('on_waiting="a@"', "cannot be the name of a tag"),
        ('on="kitaru.execution.started"', "is an event of Kitaru"),
        (f'cancel_on="{FAILED}"', "is an event of Kitaru"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: str, said: str) -> None:
    from kitaru_compiler.compile import compile_flow

    file = tmp_path / "flow.py"
    file.write_text(f"from kitaru import flow\n@flow({options})\ndef f() -> int:\n    return 1\n")
    with pytest.raises(errors.UsageError, match=said):
        compile_flow(file)


def test_nobody_sends_such_an_event(store: str) -> None:
    with pytest.raises(errors.UsageError, match="is an event of Kitaru"):
        KitaruClient().events.send(FAILED, {"flow": "paying"})
