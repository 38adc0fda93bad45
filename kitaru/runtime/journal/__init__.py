"""Decides what is written down of an execution, and that it never changes."""
