"""The commands of `kitaru`: one module per command, loaded when it runs."""
