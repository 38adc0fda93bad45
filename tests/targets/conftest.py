"""Fixtures for target tests: from a flow's source to a written build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry

Make = Callable[..., build.Build]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that compiles a flow's source and writes it to a folder of the test."""

    def made(
        source: str, target: str = "kubeflow", out: str = "out", **options: str
    ) -> build.Build:
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "flow.py").write_text(dedent(source))
        chosen = registry.get(target)
        compilation = compile_flow(project / "flow.py", profile=chosen.profile)
        return build.write(compilation, chosen, tmp_path / out, **options)

    return made


REVIEW = """
    import kitaru
    from kitaru import checkpoint, flow

    @checkpoint
    def draft(topic: str, words: int) -> str:
        return " ".join([topic] * words)

    @checkpoint
    def publish(text: str) -> str:
        return f"published: {text}"

    @flow
    def review(topic: str, words: int = 2) -> str:
        text = draft(topic, words)
        if not kitaru.wait(name="approve", question="Good?", schema=bool):
            return "rejected"
        return publish(text)
"""
