"""Runs many commands, each in a process of its own that starts with everything imported.

usage: python forked.py FILE, which holds [[arguments, stdin], …]; writes [[code, out, err], …].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import kitaru_compiler  # noqa: F401
import kitaru_targets.build
import kitaru_targets.dry_run  # noqa: F401

import kitaru  # noqa: F401
from kitaru.cli.app import run


def ran(arguments: Sequence[str], stdin: str) -> tuple[int, str, str]:
    """Run one command as `kitaru` does; return its exit code and what it wrote."""
    with ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin.encode())
        files[0].seek(0)
        child = os.fork()
        if child == 0:
            for number, file in enumerate(files):
                os.dup2(file.fileno(), number)
            code = run([*arguments])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, _read(files[1]), _read(files[2])


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    json.dump([ran(*each) for each in asked], sys.stdout)
