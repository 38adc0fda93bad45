"""Inputs of a flow that change while its executions wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, flow
from kitaru.errors import InputError, UsageError
from kitaru.local_flow import run_execution
from kitaru.runtime.engine import declared_changes, recorded_inputs
from kitaru.runtime.executions.replay import Changes
from kitaru.runtime.journal.journal import Journal
from tests.waiting import forget_runs

PAID: list[str] = []


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store, payments and declarations of this test's own."""
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.setattr(declared_changes, "_declared", {})
    PAID.clear()
    yield


def pay(to: str) -> str:
    if kitaru.wait(name="ok"):
        PAID.append(to)
    return to


def began(payee: str = "nobody") -> str:
    return pay(payee)


def renamed(recipient: str = "nobody") -> str:
    return pay(recipient)


def needed(recipient: str) -> str:
    return pay(recipient)


def more(payee: str = "nobody", currency: str = "EUR") -> str:
    return pay(payee + currency)


def retyped(payee: int = 0) -> str:
    return pay(str(payee))


def anything(**others: Any) -> str:
    return pay(str(others))


def nothing() -> str:
    return pay("nobody")


def started(function: Callable[..., Any], **inputs: Any) -> Journal:
    """Return a waiting execution of a flow called `main`."""
    made = flow(name="main")(function)
    handle = made.run(**inputs)
    assert handle.settle() == "waiting"
    return Journal.open(KitaruClient().store, handle.exec_id)


def answered(journal: Journal, function: Callable[..., Any]) -> Any:
    """Answer, and let the flow continue with changed code, as another process would."""
    from kitaru.runtime.engine import waits

    forget_runs()
    waits.answer(journal, waits.select_wait(journal, None), True)
    again = Journal.open(journal.store, journal.exec_id)
    return run_execution(flow(name="main")(function), again).wait()


def test_a_renamed_input_is_an_error_with_both_names() -> None:
    journal = started(began, payee="alice")
    with pytest.raises(InputError) as caught:
        answered(journal, renamed)
    assert "payee is recorded and not an input any more; recipient is new" in caught.value.message
    assert 'kitaru.renamed("payee", input="recipient")' in caught.value.help
    assert PAID == []


def test_a_declared_rename_passes_the_recorded_value() -> None:
    journal = started(began, payee="alice")
    kitaru.renamed("payee", input="receiver")
    kitaru.renamed("receiver", input="recipient")
    assert answered(journal, renamed) == "alice"
    assert PAID == ["alice"]


def test_an_input_without_default_is_refused() -> None:
    journal = started(nothing)
    with pytest.raises(InputError, match="recipient is new and has no default"):
        answered(journal, needed)
    assert PAID == []


def test_an_added_input_has_its_default_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    journal = started(began, payee="alice")
    assert answered(journal, more) == "aliceEUR"
    assert "currency='EUR'" in caplog.text


def test_a_removed_input_is_an_error_until_it_is_declared() -> None:
    journal = started(began, payee="alice")
    with pytest.raises(InputError, match="payee is recorded and not an input any more"):
        answered(journal, nothing)
    kitaru.removed(input="payee")
    assert run_execution(flow(name="main")(nothing), journal).wait() == "nobody"


def test_another_type_is_an_error() -> None:
    journal = started(began, payee="alice")
    with pytest.raises(InputError, match="needs payee as int, not 'alice'"):
        answered(journal, retyped)
    assert PAID == []


def test_a_flow_that_takes_any_keyword_gets_the_recorded_one() -> None:
    assert answered(started(began, payee="alice"), anything) == "{'payee': 'alice'}"


def test_a_keyword_that_is_an_input_now_is_passed_as_one() -> None:
    def both(payee: str = "nobody", **others: Any) -> str:
        return pay(payee + str(others))

    assert answered(started(anything, payee="alice", to=3), both) == "alice{'to': 3}"


@pytest.mark.parametrize("inputs", [{}, {"recipient": "bob"}])
def test_a_replay_of_a_renamed_input_is_refused_and_leaves_nothing(inputs: dict[str, Any]) -> None:
    from kitaru.local_flow import replay

    journal = started(began, payee="alice")
    with pytest.raises(InputError, match="payee is recorded"):
        replay(flow(name="main")(renamed), journal, Changes(inputs=inputs))
    assert len(KitaruClient().executions.list()) == 1


def test_a_default_of_another_type_is_still_bound() -> None:
    def odd(payee: str = 3) -> str:  # type: ignore[assignment]
        return pay(str(payee))

    assert answered(started(odd), odd) == "3"


@pytest.mark.parametrize(
    "function",
    [
        lambda: kitaru.renamed("a"),
        lambda: kitaru.renamed("a", wait="b", input="b"),
        lambda: kitaru.renamed("a", wait="a"),
        lambda: kitaru.renamed("a", checkpoint="not a name"),
        lambda: kitaru.removed(),
        lambda: kitaru.added(checkpoint=3),  # type: ignore[arg-type]
    ],
)
def test_wrong_declarations_are_refused(function: Callable[[], None]) -> None:
    with pytest.raises(UsageError):
        function()


def test_a_default_that_cannot_be_recorded_is_not_reported() -> None:
    def odd(lock: Any = object()) -> str:  # noqa: B008
        return "fine"

    assert recorded_inputs.restore("main", odd, {}).filled == ()
