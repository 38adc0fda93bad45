"""Entry point of the `kitaru` command."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 success, 1 failure, 2 usage error, 3 environment error."""
    _open_closed_streams()
    from kitaru.cli.app import run

    code = run(sys.argv[1:] if arguments is None else list(arguments))
    # Present where a flow ran in this process.
    parked = sys.modules.get("kitaru.runtime.engine.parked_threads")
    if parked is not None:
        parked.expect_exit(code)
    # If Ctrl-C has interrupted an `exec` of a string, such as that of a dataclass, `python -m` ends
    # with SIGINT instead of the code, although the interruption was handled. An `exec` resets this.
    exec("")
    if "kitaru.stores" not in sys.modules:
        # The exit would search every object for cycles, which takes a sixth of the time to compile
        # a short flow. Without a store, no flow ran here whose objects might depend on that.
        gc.freeze()
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open /dev/null for streams that the caller has closed, as in `kitaru run flow.py >&-`.

    Python sets such a stream to None, and the next file that is opened gets its descriptor. Then a
    library that writes to stderr would write to that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The system assigns the lowest free descriptor, which is this one.
            os.open(os.devnull, os.O_RDWR)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
