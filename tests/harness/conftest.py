"""Fixtures of the tests of the primitives of adapters."""

from __future__ import annotations

from tests.asynchronous.conftest import Runs, runs

__all__ = ["Runs", "runs"]
