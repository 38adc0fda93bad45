"""Run the `kitaru` command with `python -m kitaru.cli`."""

from kitaru.cli import main

main()
