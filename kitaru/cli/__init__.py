"""Decides where the command `kitaru` begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process: 0 done, 1 failed, 2 usage, 3 environment."""
    from kitaru.cli.app import run

    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
