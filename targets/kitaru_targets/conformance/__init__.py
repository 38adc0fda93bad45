"""A conformance kit for targets: does a document mean what its flow means?

A target turns the plan of a flow into a document. The kit compiles flows for the target, runs each
document as a dry run, and compares status, result, error and records with those of the flow itself
on this machine. It also starts containers twice, loses them, and writes texts that an orchestrator
could take for something else.

Name the target in a subclass of `TargetTests`:

    class TestShell(TargetTests):
        target = TARGET
        golden = Path(__file__).with_name("golden")

Or run the kit without a test module, for an installed target:

    pytest -p kitaru_targets.conformance --target shell

The kit needs pytest (the extra `testing`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru_targets.conformance.suite import TargetTests

__all__ = ["TargetTests"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the target."""
    parser.addoption(
        "--target", metavar="NAME", help="Run the conformance kit of Kitaru for this target."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Run the kit instead of the tests of the working directory if a target is named."""
    if config.getoption("--target"):
        config.args = [str(Path(__file__).with_name("test_target.py"))]
