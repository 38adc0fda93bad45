"""Tests that need an extra are skipped where it is not installed, and nothing skips in CI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, tracked

# The packages that the extras bring, and modules of Kitaru that import them at once.
PACKAGES = (
    *("airflow_client", "azure", "boto3", "botocore", "cyclonedx", "genai_prices", "google.cloud"),
    *("httpx", "kfp", "langchain_core", "langgraph", "litellm", "obstore", "openai"),
    *("fastapi", "opentelemetry", "prometheus_client", "starlette", "uvicorn"),
)
IMPORTERS = ("otel", "walk_packages")
SKIPPING = """
import pytest

def test_inside():
    pytest.skip("not today")

@pytest.mark.skipif(True, reason="never")
def test_by_a_mark():
    pass
"""
WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {PACKAGES!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run pytest with the hooks of this repository; return its exit code and its output."""
    environ = {name: value for name, value in os.environ.items() if name != "CI"} | environment
    environ["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_tests_are_collected_without_the_extras(tmp_path: Path) -> None:
    (tmp_path / "without_extras.py").write_text(WITHOUT)
    at_once = rf"(?m)^(?:from|import) (?:{'|'.join(PACKAGES)})\b|\b(?:{'|'.join(IMPORTERS)})\b"
    paths = [
        str(path) for path in tracked("tests/*/test_*.py") if re.search(at_once, path.read_text())
    ]
    assert len(paths) > 3
    code, output = run(tmp_path, "-p", "without_extras", "--collect-only", *paths)
    assert code == 0, output


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere some of what tests use is missing")
def test_nothing_skips_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_tests.py").write_text(SKIPPING)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('not_there')\n")
    hooks = ("-p", "tests.conftest", "--rootdir", str(tmp_path), "--continue-on-collection-errors")
    assert "3 skipped" in run(tmp_path, *hooks)[1]
    _, output = run(tmp_path, *hooks, CI="true")
    assert "1 failed, 2 errors" in output and "No test may skip in CI" in output
