"""Tests that need the Claude Agent SDK: see `tests/adapters/test_environments.py`."""
