"""Kills its own process, really, at one store operation: `before:N` or `after:N`.

`call:N:FAILURE` raises in the Nth call of Kitaru's after the marker instead (`tests.endings`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from itertools import product
from typing import Any

from kitaru.stores.object_store import ObjectStore
from kitaru.stores.sqlite import SqliteStore
from tests.endings.injector import Injector

_SECONDS = 240

OPERATIONS = ("create", "create_all", "get", "get_all", "list")


def arm(when: str) -> None:
    """Make every store operation of this process count; nothing happens when `when` is empty."""
    if when.startswith("call:"):
        _, number, failure = when.split(":")
        # One that waits for ever ends with this signal.
        signal.alarm(_SECONDS)
        Injector(int(number), failure).arm()
    elif when:
        moment, _, number = when.partition(":")
        killer = _Killer(moment, int(number))
        for store, name in product((SqliteStore, ObjectStore), OPERATIONS):
            setattr(store, name, killer.around(getattr(store, name)))


class _Killer:
    def __init__(self, moment: str, left: int) -> None:
        self._moment = moment
        self._left = left
        # One operation may be made of others; only the outermost counts.
        self._inside = threading.local()

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(self._inside, "store", False):
                return method(*arguments, **options)
            self._left -= 1
            fatal = self._left == 0
            if fatal and self._moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            self._inside.store = True
            result = method(*arguments, **options)
            self._inside.store = False
            if fatal and self._moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call
