"""Tests of adapters whose harness cannot be installed beside the others.

Each harness has an environment `.envs/<name>`, made by `python3 dev.py test` from
`environments/<name>.txt`. Its tests are in the folder of that name and run there, in one process.
The oldest supported version has an environment `<name>-oldest`, for the tests without the kit.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
_OLDEST = "-oldest"


def _folder(name: str) -> Path:
    return FOLDER / name.removesuffix(_OLDEST).replace("-", "_")


NAMES = sorted(
    path.stem for path in (FOLDER / "environments").glob("*.txt") if _folder(path.stem).is_dir()
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_adapters_pass_their_tests_in_their_environments(name: str, tmp_path: Path) -> None:
    interpreter = ROOT / ".envs" / name / "bin" / "python"
    if not interpreter.exists():
        pytest.skip(f"no {name} here: python3 dev.py test installs it")
    folder = _folder(name)
    packages = [ROOT, ROOT / "compiler", ROOT / "targets", ROOT / "templates"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, packages))}
    for variable in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "KITARU_STORE"):
        environ.pop(variable, None)
    command = [
        *(str(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-p", "kitaru.pytest_plugin", "--basetemp", str(tmp_path / "own")),
        *([f"--ignore={folder / 'test_conformance.py'}"] if name.endswith(_OLDEST) else []),
        str(folder),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-20000:]}{done.stderr[-5000:]}"
