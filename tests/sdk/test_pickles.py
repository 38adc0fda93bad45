"""A checkpoint's result is pickled where it says so, and nobody else loads what it pickled."""

from __future__ import annotations

import re
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import CheckpointFailed, Diverged, PickleRefused, UsageError, ValueNotEncodable
from kitaru.wire.structs import replace

LOADED: list[int] = []


class Model:
    def __init__(self, weight: int) -> None:
        self.weight = weight

    def __reduce__(self) -> Any:
        return _rebuilt, (self.weight,)


def _rebuilt(weight: int) -> Model:
    LOADED.append(weight)
    return Model(weight)


@checkpoint(pickle=True)
def fit(weight: int) -> Model:
    return Model(weight)


@checkpoint
def fit_plainly(weight: int) -> Any:
    return Model(weight)


@checkpoint
def unpicklable() -> Any:
    return (n for n in ())


@checkpoint
def weigh(model: Model) -> int:
    return model.weight


@checkpoint
def handed_back(model: Model) -> Model:
    return model


@flow
def training(weight: int) -> Model:
    model = fit(weight)
    weigh(model)
    return model


@flow
def side_by_side(weights: list[int]) -> list[int]:
    models = [future.result() for future in fit.map(weights)]
    return [future.result() for future in weigh.map(models)]


def test_a_result_comes_back_and_is_handed_on() -> None:
    assert training.run(3).wait().weight == 3
    assert side_by_side.run([1, 2]).wait() == [1, 2]


def test_the_same_on_every_replay() -> None:
    handle = training.run(4)
    handle.wait()
    replayed = KitaruClient().executions.replay(handle.exec_id, start="weigh")
    assert replayed.wait().weight == 4


def test_who_did_not_allow_it_is_told_how_to() -> None:
    @flow
    def plain() -> Any:
        return fit_plainly(1)

    with pytest.raises(CheckpointFailed) as caught:
        plain.run().wait()
    assert isinstance(caught.value.__cause__, ValueNotEncodable)
    message = str(caught.value.__cause__)
    assert re.search(r"fit_plainly .*: result is a .*Model", message)
    assert "@checkpoint(pickle=True)" in message


def test_the_option_is_not_offered_where_it_would_not_help() -> None:
    @flow
    def hopeless() -> Any:
        return unpicklable()

    with pytest.raises(CheckpointFailed) as caught:
        hopeless.run().wait()
    assert "pickle" not in str(caught.value.__cause__)


def test_a_checkpoint_that_did_not_allow_it_hands_no_model_back() -> None:
    @flow
    def around() -> Any:
        return handed_back(fit(1))

    with pytest.raises(CheckpointFailed) as caught:
        around.run().wait()
    assert caught.value.__cause__ is not None
    assert "handed_back returned a value that cannot be recorded" in str(caught.value.__cause__)


def test_a_record_is_loaded_only_while_the_checkpoint_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = training.run(5)
    handle.wait()
    monkeypatch.setitem(vars(fit), "spec", replace(fit.spec, pickle=False))
    LOADED.clear()
    with pytest.raises(Diverged, match="does not set pickle=True"):
        KitaruClient().executions.replay(handle.exec_id, start="weigh").wait()
    assert not LOADED


def test_who_looks_at_an_execution_loads_nothing() -> None:
    handle = training.run(6)
    handle.wait()
    LOADED.clear()
    client = KitaruClient()
    view = client.executions.get(handle.exec_id)
    with pytest.raises(PickleRefused):
        _ = view.result
    client.executions.list()
    client.executions.lineage(handle.exec_id)
    assert client.executions.diff(handle.exec_id, handle.exec_id).same
    assert not LOADED


def test_an_artifact_is_loaded_by_who_allows_it() -> None:

    @checkpoint(pickle=True)
    def allowed(exec_id: str) -> int:
        return int(kitaru.load(exec_id, "fit").weight)

    @checkpoint
    def not_allowed(exec_id: str) -> int:
        return int(kitaru.load(exec_id, "fit").weight)

    @flow
    def loading(exec_id: str, allow: bool) -> int:
        return allowed(exec_id) if allow else not_allowed(exec_id)

    handle = training.run(7)
    handle.wait()
    assert loading.run(handle.exec_id, True).wait() == 7
    with pytest.raises(CheckpointFailed) as caught:
        loading.run(exec_id=handle.exec_id, allow=False).wait()
    assert isinstance(caught.value.__cause__, PickleRefused)


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(UsageError, match="pickle='yes'"):
        checkpoint(pickle="yes")(_rebuilt)  # type: ignore[call-overload]
