"""Run the `kitaru` command with `python -m kitaru`."""

from kitaru.cli import main

main()
