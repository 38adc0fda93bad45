"""Programs that stand in for docker, podman and others: they record their arguments."""

from __future__ import annotations

import shlex
from pathlib import Path

DIGEST = "sha256:" + "0123456789abcdef" * 4


class Builders:
    """Programs in `folder`, which is to be the first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "calls"
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, script: str = "") -> None:
        """Add a program: it records its arguments, and runs a script of the shell.

        Without a script it succeeds, and reports `DIGEST` as each builder does.
        """
        log = shlex.quote(str(self._log))
        text = (
            f"#!/bin/sh\nprintf '%s\\037' {name} \"$@\" >> {log}\nprintf '\\n' >> {log}\n"
            f"{script or _REPORTING}"
        )
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """Return the commands that ran, each with its arguments."""
        if not self._log.exists():
            return []
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [line.split("\037")[:-1] for line in lines]


_REPORTING = f"""\
case "$1 $2" in
  "version --format") echo 28.2.2 ;;
  "image inspect") echo "[\\"other.example.com/x@sha256:{"f" * 64}\\",\\"${{5%:*}}@{DIGEST}\\"]" ;;
  "push --digestfile") echo {DIGEST} > "$3" ;;
  "artifacts docker" | "acr repository") echo {DIGEST} ;;
  *) echo "doing $1" ;;
esac
"""
