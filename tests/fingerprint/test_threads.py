"""Fingerprints can be asked for from many threads at once."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor

from kitaru.wire.definitions import read_definitions

MODULE = "\n".join(f"def f_{n}(a, b=[{n}]):\n    return [a, {{'k': (b, {n})}}]" for n in range(30))


def test_modules_are_read_side_by_side() -> None:
    """Python code that the garbage collector runs lets another thread in while a tree is built."""

    def let_others_in(*_: object) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(let_others_in)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: read_definitions(f"{MODULE}\nX = {n}\n"), range(24)))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(let_others_in)
    assert all("X" in definitions.names() for definitions in found)
