"""Decides where the command `kitaru` begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process: 0 done, 1 failed, 2 usage, 3 environment."""
    _open_closed_streams()
    from kitaru.cli.app import run

    code = run(sys.argv[1:] if arguments is None else list(arguments))
    # Present where a flow ran in this process.
    parked = sys.modules.get("kitaru.runtime.engine.parked_threads")
    if parked is not None:
        parked.expect_exit(code)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Lead the streams that the caller has closed (`kitaru run flow.py >&-`) to nowhere.

    Python has None in their place, and the next file that is opened gets the closed number: what a
    library writes to stderr would end up in that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number, so this one.
            os.open(os.devnull, os.O_RDWR)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
