"""Decides what each command does: one module per command, loaded when it runs."""
