"""Decides how a dry run starts a container: its own command, as a process of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .interpret import Call, text_of

# What a container would not have: settings of this machine's Python, pip and Kitaru.
_LEFT_OUT = ("KITARU_", "PYTHON", "PIP_", "VIRTUAL_ENV")
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_OUTPUT = re.compile(r"\{\{\$\.outputs\.parameters\['([^']+)'\]\.output_file\}\}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt of a step ended: exit code, what it printed and what it wrote."""

    task: str
    step: str
    attempt: int
    code: int
    log: str
    outputs: Mapping[str, str]


Report = Callable[[Ended], None]


class Machine:
    """Runs containers as processes, `folder` being the working directory of the image."""

    def __init__(self, folder: Path, scratch: Path, report: Report) -> None:
        self._folder = folder
        self._scratch = scratch
        self._report = report
        self.failures: dict[str, Ended] = {}

    def __call__(self, call: Call) -> Mapping[str, str] | None:
        with tempfile.TemporaryDirectory(dir=self._scratch) as made:
            folder = Path(made)
            files = {name: folder / "outputs" / name for name in call.outputs}
            done = subprocess.run(
                command(call, files),
                cwd=self._folder,
                env=self._environment(call),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
            outputs = {n: f.read_text(encoding="utf-8") for n, f in files.items() if f.is_file()}
        step = text_of(call.inputs.get("step", call.task))
        ended = Ended(call.task, step, call.attempt, done.returncode, done.stdout, outputs)
        self._report(ended)
        complete = done.returncode == 0 and set(outputs) == set(call.outputs)
        self.failures.pop(call.task, None)
        if not complete:
            self.failures[call.task] = ended
        return outputs if complete else None

    def _environment(self, call: Call) -> dict[str, str]:
        here = {k: v for k, v in os.environ.items() if not k.startswith(_LEFT_OUT)}
        own = {entry["name"]: entry["value"] for entry in call.container.get("env", [])}
        # A dry run installs nothing on this machine.
        limits = {"PIP_NO_INDEX": "1", "TMPDIR": str(self._scratch), "KITARU_MODE": "dry-run"}
        return {**here, **own, **limits}


def command(call: Call, files: Mapping[str, Path]) -> list[str]:
    """Return a container's command and arguments with inputs and output files filled in."""
    parts = [*call.container["command"], *call.container.get("args", [])]
    first, *rest = (_filled(part, call, files) for part in parts)
    return [sys.executable if first in ("python", "python3") else first, *rest]


def _filled(part: str, call: Call, files: Mapping[str, Path]) -> str:
    part = _OUTPUT.sub(lambda match: str(files[match[1]]), part)
    return _INPUT.sub(lambda match: text_of(call.inputs[match[1]]), part)
