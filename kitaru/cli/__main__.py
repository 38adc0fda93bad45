"""Decides that `python -m kitaru.cli` is the command `kitaru`."""

from kitaru.cli import main

main()
