"""The commit of the sources of a compilation, for the header of its document.

The header must be equal for equal sources. The commit is therefore not the newest one, which
changes with every other file of the repository, but the one that last changed a file of the flow.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS = 30
_SHOWN = 12


def commit_of(base: Path, files: Mapping[str, bytes]) -> str:
    """Return the commit that last changed one of the files, and whether they changed since then.

    Args:
        base: the folder of the files.
        files: their content, by paths below `base`.

    Returns:
        An empty string outside of a Git repository, without Git, and in a shallow clone, which does
        not know the commit.

    Example:
        commit_of(Path("project"), {"triage.py": data})  # "commit 0a1b2c3d4e5f"
    """
    names = sorted(name for name in files if "\n" not in name)
    git = shutil.which("git")
    above = (base, *base.absolute().parents)
    if git is None or not names or not any((folder / ".git").exists() for folder in above):
        return ""
    # Git reads the paths relative to the folder in which it runs, also after a colon.
    ask = _Git(git, base)
    if ask(["rev-parse", "--is-shallow-repository"]) != "false\n":
        return ""
    found = ask(["rev-list", "-1", "--stdin"], ["HEAD", "--", *names]).strip()
    if not found:
        return ""
    blobs = ask(["cat-file", "--batch-check"], [f"{found}:./{name}" for name in names])
    recorded = [line.partition(" ")[0] for line in blobs.splitlines()]
    same = recorded == [_blob(files[name], len(found)) for name in names]
    return f"commit {found[:_SHOWN]}{'' if same else ' with uncommitted changes'}"


class _Git:
    def __init__(self, program: str, folder: Path) -> None:
        self._start = [program, "--literal-pathspecs", "-C", str(folder)]

    def __call__(self, arguments: Sequence[str], lines: Sequence[str] = ()) -> str:
        """Return what a command of Git prints, empty if it fails."""
        try:
            done = subprocess.run(
                [*self._start, *arguments],
                input="".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"),
                capture_output=True,
                env={**os.environ, "LC_ALL": "C"},
                timeout=_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.decode(errors="replace")


def _blob(data: bytes, length: int) -> str:
    """Return the name that Git gives to a content; `length` is that of a name in the repository."""
    whole = b"blob %d\0%s" % (len(data), data)
    made = hashlib.sha1(whole, usedforsecurity=False) if length == 40 else hashlib.sha256(whole)
    return made.hexdigest()
