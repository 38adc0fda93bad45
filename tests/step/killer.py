"""Runs a step and kills its process, really, at one store operation: `before:N` or `after:N`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kitaru.runtime.__main__ import main
from kitaru.stores.sqlite import SqliteStore

moment, _, number = sys.argv[1].partition(":")
left = int(number)


def deadly(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        global left
        left -= 1
        if left == 0 and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments, **options)
        if left == 0 and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


for name in ("create", "create_all", "get", "list"):
    setattr(SqliteStore, name, deadly(getattr(SqliteStore, name)))

sys.exit(main(sys.argv[2:]))
