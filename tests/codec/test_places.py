"""What lies in a module of the project crosses by the way to it, and is the same object again."""

from __future__ import annotations

import copyreg
import json
from collections import OrderedDict, deque
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from kitaru.errors import ValueNotEncodable
from kitaru.runtime.codec import decode_frame, encode_frame
from kitaru.wire import canonical


class Agent:
    shared: list[str] = []  # noqa: RUF012

    def __init__(self, tools: Any) -> None:
        self.tools = tools


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


MISSING = {"sentinel": object()}
CONFIG: dict[Any, Any] = {"tags": ["a"], 1: {"deep": [[]]}, (1, 2): []}
AGENT = Agent(["t"])
ROW = OrderedDict(cells=deque([[1]]))
SLOTTED = Slotted(([],))
SET = {AGENT, Slotted(["in a set"])}
CLIENT: Any = HTTPConnection("localhost")
CLIENT.history = []
LARGE = [[object()] for _ in range(12_000)]
TABLE = [[number] for number in range(12_000)]


def gathering(into: list[Any] = []) -> list[Any]:  # noqa: B006
    return into


def again(**variables: Any) -> dict[str, Any]:
    here = {__name__: globals()}
    return decode_frame(json.loads(canonical.dumps(encode_frame(variables, here))), here)


@pytest.mark.parametrize(
    "held",
    [
        CONFIG["tags"],
        CONFIG[1]["deep"][0],
        MISSING["sentinel"],
        AGENT.tools,
        Agent.shared,
        ROW["cells"][0],
        SLOTTED.held[0],
        TABLE[11_000],
    ],
)
def test_is_the_same_object(held: Any) -> None:
    found = again(x=held, box=[held])
    assert found["x"] is held and found["box"][0] is held


def test_an_object_that_holds_a_global_is_a_copy_that_holds_it() -> None:
    agent = Agent(CONFIG["tags"])
    found = again(agent=agent)["agent"]
    assert found is not agent and found.tools is CONFIG["tags"]


@pytest.mark.parametrize(
    ("held", "root"),
    [
        (lambda: CONFIG[1, 2], "CONFIG"),
        (lambda: next(s for s in SET if type(s) is Slotted), "SET"),
        (lambda: CLIENT.history, "CLIENT"),
        (lambda: gathering(), "gathering"),
        (lambda: LARGE[3], "LARGE"),
        (lambda: copyreg.dispatch_table, "copyreg"),
    ],
)
def test_no_way_leads_there(held: Callable[[], Any], root: str) -> None:
    with pytest.raises(ValueNotEncodable, match=root) as caught:
        again(x=[held()])
    assert caught.value.path == "x[0]"


def test_texts_numbers_and_fresh_copies_are_no_such_objects() -> None:
    found = again(x=list(CONFIG["tags"]), text=CONFIG["tags"][0], none=(), n=TABLE[5][0])
    assert found == {"x": ["a"], "text": "a", "none": (), "n": 5}
    assert found["x"] is not CONFIG["tags"]
