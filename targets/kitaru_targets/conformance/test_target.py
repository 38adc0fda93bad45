"""The kit for the target that `--target` names; see `kitaru_targets.conformance`."""

from __future__ import annotations

import pytest

from kitaru_targets import registry
from kitaru_targets.base import Target
from kitaru_targets.conformance.suite import TargetTests


class TestTarget(TargetTests):
    """The tests of the target that the command names."""

    @pytest.fixture(scope="class")
    @classmethod
    def chosen(cls, request: pytest.FixtureRequest) -> Target:
        return registry.get(request.config.getoption("--target"))
