"""Google ADK against the conformance kit for adapters.

With kills at each call of each conversation and at random moments, for some minutes:

    export PYTHONPATH=.:compiler:targets:templates
    .envs/google-adk/bin/python -m pytest -p kitaru.pytest_plugin -o python_classes=EachCall \\
        tests/adapters/google_adk/test_conformance.py
"""

from __future__ import annotations

from kitaru.testing.adapters import AdapterTests

from .adk_harness import GoogleADK


class TestGoogleADK(AdapterTests):
    """The kit's tests, with two kills of each conversation."""

    harness = GoogleADK
    seeds = 0
    calls = 1


class EachCall(AdapterTests):
    """The kit's tests."""

    harness = GoogleADK
