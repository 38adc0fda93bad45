"""A flow that ends in one of several ways; `ENDS` is printed where its ending begins."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


def note(what: str) -> None:
    with Path("ran").open("a") as file:
        file.write(f"{what}\n")


@checkpoint
def one() -> int:
    note("one")
    return 1


@checkpoint
def two(n: int) -> int:
    note("two")
    if Path("broken").exists():
        raise ValueError("broken")
    return n + 1


@flow
def ending(how: str) -> int:
    n = one()
    futures = [two.submit(n), two.submit(n + 1)] if how == "fan" else []
    sys.stdout.write("a line without an end")
    sys.stdout.write("ENDS")
    sys.stdout.write("\n")
    if how == "waits":
        kitaru.wait(name="fine", schema=bool)
    if how == "raises" and Path("broken").exists():
        raise ValueError("the body")
    if how == "terminated" and Path("broken").exists():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return sum(future.result() for future in futures) if futures else two(n)
