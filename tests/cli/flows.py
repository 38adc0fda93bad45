"""The flows that the tests of the command line run."""

REVIEW = """\
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


def note(text):
    with Path("ran.txt").open("a") as file:
        file.write(text + "\\n")


@checkpoint
def research(topic: str) -> str:
    note("research")
    return f"brief on {topic}"


@checkpoint
def draft(brief: str) -> str:
    note("draft")
    return f"draft of {brief}"


@flow
def review(topic: str) -> str:
    text = draft(research(topic))
    approved = kitaru.wait(name="approve", question="Approve draft?", schema=bool)
    return text if approved else "Rejected"
"""

NOTING = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def count() -> int:
    kitaru.log(rows=2)
    return 2


@flow
def noting() -> int:
    kitaru.log(stage="begin")
    kitaru.log(stage="end")
    return count()
"""

EVEN = """\
import pydantic

import kitaru
from kitaru import flow


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number


@flow
def even() -> int:
    return kitaru.wait(name="even", schema=Even, metadata={"of": "pairs"}).number
"""

FAILING = """\
from pathlib import Path

from kitaru import checkpoint, flow


@checkpoint
def first() -> int:
    print("a print of the user's")
    return 1


@checkpoint
def second(number: int) -> int:
    if not Path("fixed").exists():
        raise ValueError(f"bad {number}")
    return number + 1


@flow
def failing() -> int:
    return second(first())
"""

SLOW = """\
import time
from pathlib import Path

from kitaru import checkpoint, flow


@checkpoint
def quick() -> str:
    return "quick"


@checkpoint
def slow() -> str:
    Path("slow-began").touch()
    deadline = time.monotonic() + 60
    while not Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return "slow"


@flow
def both() -> str:
    return f"{quick()} {slow()}"
"""

FORM = """\
from typing import Annotated, Any

from pydantic import AfterValidator

import kitaru
from kitaru import flow


def several(count: int) -> int:
    if count < 2:
        raise ValueError("too few")
    return count


Several = Annotated[int, AfterValidator(several)]


@flow
def form(greeting: str = "hello") -> dict[str, Any]:
    who = kitaru.wait(name="who", question="Who?", schema=str)
    count = kitaru.wait(name="count", question="How many?", schema=Several)
    return {"greeting": greeting, "who": who, "count": count}
"""

UNENCODABLE = """\
from kitaru import checkpoint, flow


@checkpoint
def lock() -> object:
    import threading

    return {"inner": [threading.Lock()]}


@flow
def locked() -> None:
    lock()
"""
