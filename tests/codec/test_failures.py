"""A recorded exception is raised again with its class, arguments, attributes and notes."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from kitaru.errors import CheckpointFailed, InputError, KitaruError, RecordCorrupt
from kitaru.runtime.journal.exceptions import decode_exception, encode_exception, user_traceback
from kitaru.wire import canonical


class Custom(ValueError):
    created = 0

    def __init__(self, code: int, what: str) -> None:
        super().__init__(f"{what} ({code})")
        self.code = code
        type(self).created += 1


class ProviderError(Exception):
    """Holds a live object, as the errors of HTTP clients do."""

    def __init__(self, message: str, response: Any) -> None:
        super().__init__(message, response)
        self.response = response
        self.status = 429

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.status}"


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Slotted(Exception):
    __slots__ = ("hidden",)


def again(exc: BaseException) -> BaseException:
    return decode_exception(json.loads(canonical.dumps(encode_exception(exc))))


def raised(action: Any) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("x"),
        KeyError(("a", 1)),
        ValueError(),
        OSError(2, "gone", "f.txt", None, "g.txt"),
        raised(lambda: open("/no/such/file")),  # noqa: PTH123, SIM115
        raised(lambda: b"\xff".decode()),
        raised(lambda: compile("a b", "f.py", "exec")),
        raised(lambda: __import__("no_such_module_anywhere")),
        StopIteration(5),
        KeyboardInterrupt(),
        SystemExit(3),
        RecordCorrupt("broken", help="mend it"),
    ],
)
def test_same_class_text_and_state(exc: BaseException) -> None:
    found = again(exc)
    assert type(found) is type(exc) and found.args == exc.args and str(found) == str(exc)
    assert vars(found) == vars(exc)
    slots = ("errno", "filename", "filename2", "start", "reason", "lineno", "text", "name", "value")
    for name in slots:
        assert getattr(found, name, None) == getattr(exc, name, None)


def test_no_constructor_runs() -> None:
    exc = Custom(7, "bad")
    before = Custom.created
    found = again(exc)
    assert isinstance(found, Custom) and found.code == 7 and str(found) == "bad (7)"
    assert Custom.created == before


def test_notes_cause_and_slots() -> None:
    exc = Slotted("x")
    exc.hidden = [1]  # type: ignore[misc]
    exc.add_note("while drafting")
    exc.__cause__ = Custom(1, "deep")
    found = again(exc)
    assert found.hidden == [1]  # type: ignore[attr-defined]
    assert found.__notes__ == ["while drafting"]
    assert isinstance(found.__cause__, Custom) and found.__suppress_context__


def test_live_parts_are_left_out_but_the_class_stays() -> None:
    found = again(ProviderError("slow down", threading.Lock()))
    assert isinstance(found, ProviderError)
    assert found.status == 429 and str(found) == "slow down: 429"
    assert not hasattr(found, "response") and "lock" in repr(found.args[1])


def test_groups() -> None:
    group = ExceptionGroup("both", [Custom(1, "a"), ExceptionGroup("in", [KeyError("b")])])
    found = again(group)
    assert isinstance(found, ExceptionGroup) and str(found) == str(group)
    first, second = found.exceptions
    assert isinstance(first, Custom) and first.code == 1
    assert isinstance(second, ExceptionGroup) and isinstance(second.exceptions[0], KeyError)


def test_degraded_on_both_runs() -> None:
    class Local(ValueError):
        pass

    for exc, text in ((Local("here"), "Local: here"), (Hostile(), "cannot be shown")):
        found = again(exc)
        assert type(found) is CheckpointFailed and text in found.message and found.help


def test_cycle_of_causes_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    found: BaseException | None = again(one)
    steps = 0
    while found is not None:
        found, steps = found.__cause__, steps + 1
    assert 1 < steps < 20


def test_missing_class_is_told() -> None:
    document = encode_exception(Custom(1, "x"))
    document["class"][1] = "Gone"
    with pytest.raises(KitaruError, match="Gone"):
        decode_exception(document)


def test_traceback_shows_only_frames_that_are_not_ours() -> None:
    def user() -> None:
        from kitaru.wire.names import check_name

        check_name("flow", "not a name!")

    exc = raised(user)
    text = user_traceback(exc)
    assert "in user" in text and type(exc).__name__ in text
    assert "check_name(kind" not in text and "kitaru/wire/names.py" not in text
    assert isinstance(exc, InputError | KitaruError | ValueError)


def test_traceback_of_causes_and_groups() -> None:
    def user() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ExceptionGroup("outer", [ValueError("leaf")]) from error

    text = user_traceback(raised(user))
    assert "inner" in text and "leaf" in text and "direct cause" in text
