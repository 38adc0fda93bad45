"""Kitaru's own targets, and that of another distribution, pass the conformance kit.

With the variable `KITARU_CONFORMANCE`, each target passes all of it, which takes some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kitaru_targets import registry
from kitaru_targets.conformance import TargetTests
from kitaru_targets.conformance.cases import CASES, DISTURBED

from .plugin import kitaru_shell

ALL = bool(os.environ.get("KITARU_CONFORMANCE"))
# A wait in a region, a wait between steps, and a list.
FEW = [one for one in CASES if one.flow == "rounds"]


class Own(TargetTests):
    cases = CASES if ALL else (*FEW, *DISTURBED[1:])
    disturbed = DISTURBED if ALL else DISTURBED[2:]


class TestShell(Own):
    target = kitaru_shell.TARGET
    golden = Path(__file__).with_name("plugin") / "golden"


class TestAirflow(Own):
    target = registry.get("airflow")


def test_the_kit_runs_without_a_test_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "kitaru_targets.conformance"]
    chosen = ["--target", "argo", "-k", "guide or damage", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *chosen], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


if ALL:

    class TestArgo(Own):
        target = registry.get("argo")

    class TestAzureML(Own):
        target = registry.get("azureml")

    class TestKubeflow(Own):
        target = registry.get("kubeflow")

    class TestKubernetes(Own):
        target = registry.get("kubernetes")

    class TestLocal(Own):
        target = registry.get("local")

    class TestSageMaker(Own):
        target = registry.get("sagemaker")

    class TestStepFunctions(Own):
        target = registry.get("stepfunctions")

    class TestVertex(Own):
        target = registry.get("vertex")
