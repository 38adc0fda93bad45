"""Check, compile and explain a flow for an agent: in a process of its own, without an import of it.

The compiler reads any source that a client sends. A process of its own bounds its time and memory,
keeps the service alive whatever the source is, and sees no setting and no secret of the service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kitaru import errors
from kitaru.errors import EnvironmentFailure, KitaruError, NotFound, UsageError
from kitaru.wire.names import suggestion

MOST_SOURCE = 200_000
"""Maximum number of characters of a source that is sent."""

_SECONDS = 60
_MEMORY_BYTES = 2 * 1024**3
_AT_ONCE = 2
# Of the operating system: a program needs them to start.
_KEPT = ("PATH", "SYSTEMROOT", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_FILE = "flow.py"
_LIMITED = f"""
import sys
from runpy import run_module
try:
    import resource
except ImportError:
    pass
else:
    resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY_BYTES}, {_MEMORY_BYTES}))
run_module("kitaru", run_name="__main__", alter_sys=True)
"""
# Files of a build that are not text, or repeat others.
_NOT_SHOWN = ("bundle.zip", "index.html")

_running = threading.BoundedSemaphore(_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Subject:
    """A flow to analyse: `FILE.py:NAME` of a folder, with the environment of its compiler."""

    flow: str
    folder: Path
    environment: dict[str, str]

    def check(self) -> dict[str, Any]:
        """Return the findings of the linter, and whether the flow can be compiled."""
        found = self._run("check", expects_findings=True)
        findings = found["diagnostics"]
        return {"is_fatal": any(one["severity"] == "error" for one in findings), **found}

    def compile(self, target: str, file: str, skip: int, limit: int) -> dict[str, Any]:
        """Return the steps of the compiled flow, and a part of one file of the build.

        Args:
            file: name of the file; empty for the document of the target.
            skip, limit: the characters to skip, and the maximum number to return.
        """
        with TemporaryDirectory(prefix="kitaru-build-") as folder:
            found = self._run("compile", f"--target={target}", f"--output={folder}")
            build = Path(found.pop("directory"))
            name = file or Path(found.pop("document")).name
            found.pop("document", None)
            files = {
                one.name: one.stat().st_size
                for one in sorted(build.iterdir())
                if one.name not in _NOT_SHOWN
            }
            if name not in files:
                raise NotFound(
                    f"The build has no file {name!a}.",
                    help=suggestion(name, files, f"Files: {', '.join(files)}"),
                )
            text = (build / name).read_text("utf-8")
        end = skip + limit
        return {
            **found,
            "files": files,
            "file": name,
            "text": text[skip:end],
            "next_skip": end if len(text) > end else None,
        }

    def explain(self, target: str, skip: int, limit: int) -> dict[str, Any]:
        """Return why each cut of the flow is or is not there, and what would change it.

        Args:
            skip, limit: the parts of the flow to skip, and the maximum number to return.
        """
        with TemporaryDirectory(prefix="kitaru-build-") as folder:
            options = (f"--target={target}", f"--output={folder}", "--explain")
            explained: dict[str, Any] = self._run("compile", *options)["explanation"]
        end = skip + limit
        parts = explained["parts"]
        page = {"parts": parts[skip:end], "next_skip": end if len(parts) > end else None}
        return {**explained, **page}

    def _run(self, command: str, *options: str, expects_findings: bool = False) -> dict[str, Any]:
        """Return the document of a command; raise its error."""
        # No name of a flow is an option.
        arguments = [command, *options, "--json", "--", self.flow]
        if not _running.acquire(timeout=_SECONDS):
            raise EnvironmentFailure("The compiler is busy with other requests.", help="Try again.")
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _LIMITED, *arguments],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _too_much() from None
        finally:
            _running.release()
        if done.returncode == 0 or (expects_findings and done.stdout.strip()):
            try:
                found: dict[str, Any] = json.loads(done.stdout)
            except ValueError:
                raise _too_much() from None
            return found
        raise _error(done.stderr)


@contextmanager
def of_source(source: str) -> Iterator[Subject]:
    """Provide a source as the only file of a project without settings."""
    with TemporaryDirectory(prefix="kitaru-source-") as folder:
        home = Path(folder)
        (home / _FILE).write_text(source, "utf-8", "surrogatepass")
        # No settings of a folder above apply.
        (home / "pyproject.toml").write_text("[tool.kitaru]\n", "utf-8")
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        yield Subject(_FILE, home, {**kept, "HOME": folder, "USERPROFILE": folder})


def of_file(flow: str) -> Subject:
    """Return a flow of the working directory, such as `review.py:review`, with its settings."""
    return Subject(flow, Path.cwd(), dict(os.environ))


def _error(stderr: bytes) -> KitaruError:
    """Return the error of a command by the last line that it wrote."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    try:
        error = json.loads(lines[-1])["error"]
        name, message, help = error["type"], error["message"], error["help"]
    except (IndexError, KeyError, TypeError, ValueError):
        return _too_much()
    cls = getattr(errors, name, None)
    if isinstance(cls, type) and issubclass(cls, KitaruError):
        return cls(message, help=help)
    return UsageError(message, help=help)


def _too_much() -> EnvironmentFailure:
    return EnvironmentFailure(
        f"The flow cannot be analysed in {_SECONDS} seconds and 2 GiB of memory.",
        help="Analyse it on your machine: kitaru check flow.py",
    )
