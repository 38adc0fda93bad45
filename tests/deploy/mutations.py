"""Changes the files of a build byte by byte, and what commands answer to that.

    python -m tests.deploy.mutations              # every byte of every file, in each way
    python -m tests.deploy.mutations --step 97    # each 97th byte

A change is *signed* where `lock.json` gets the digest of the changed file, as somebody would do who
may write it all. Allowed is that a command succeeds, or ends with the exit code and the message of
an error of Kitaru: never with those of a defect.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kitaru_compiler import compile_flow
from kitaru_targets import build, registry

from kitaru.cli import app
from kitaru.runtime.executions.deployments import Deployments
from kitaru.stores import open_store
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import LOCK

FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def draft(topic: str) -> str:
    return topic

@flow
def small(topic: str, words: int = 2) -> str:
    text = draft(topic)
    if kitaru.wait(name="ok", schema=bool):
        text = draft(text)
    return text
"""
CHANGES: dict[str, Callable[[bytes, int], bytes]] = {
    "flipped": lambda data, at: data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :],
    "removed": lambda data, at: data[:at] + data[at + 1 :],
    "cut": lambda data, at: data[:at],
    "a nine": lambda data, at: data[:at] + b"9" + data[at + 1 :],
}
# The codes that errors of Kitaru have: a failure or a difference, usage, the environment.
CODES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Case:
    """One change of one byte of a file; `signed` says that `lock.json` agrees with it."""

    file: str
    change: str
    at: int
    signed: bool


class Bench:
    """A build, and a copy of it that is changed: each command is run on the copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "flow.py").write_text(FLOW)
        target = registry.get("kubeflow")
        compilation = compile_flow(folder / "flow.py", profile=target.profile)
        image = "registry.example/flows@sha256:" + "0" * 64
        # Inline: a bundle without the runtime, so that every byte of it is of this flow.
        made = build.write(compilation, target, folder / "made", image=image, delivery="inline")
        self.files = {name: (made.directory / name).read_bytes() for name in made.files}

    def cases(self, step: int) -> Iterator[Case]:
        """Yield the changes of each `step`-th byte."""
        for name, data in self.files.items():
            for number, at in enumerate(range(0, len(data), step)):
                # One way after the other where not every byte is changed.
                ways = [*CHANGES] if step == 1 else [[*CHANGES][number % len(CHANGES)]]
                for way in ways:
                    yield Case(name, way, at, False)
                    if name != LOCK:
                        yield Case(name, way, at, True)

    def apply(self, case: Case) -> None:
        """Write the build to the copy, one file of it changed."""
        files = dict(self.files)
        files[case.file] = CHANGES[case.change](files[case.file], case.at)
        if case.signed:
            locked = json.loads(files[LOCK])
            locked["files"][case.file] = sha256(files[case.file])
            files[LOCK] = json.dumps(locked).encode()
        self.write(files)

    def write(self, files: dict[str, bytes]) -> None:
        """Let the copy, and the newest version in a new store, be these files."""
        for name in ("copy", "store"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        for name, data in files.items():
            (self.folder / "copy" / name).write_bytes(data)
        store = open_store(self.store)
        deployments = Deployments(store)
        made = deployments.add("small", "kubeflow", files)
        deployments.tag(f"small@{made.version}", "default")
        store.close()

    @property
    def store(self) -> str:
        return f"sqlite:{self.folder / 'store' / 'k.db'}"

    def commands(self) -> Iterator[list[str]]:
        """Yield commands that read the copy, or the version in the store."""
        made, copy = str(self.folder / "made"), str(self.folder / "copy")
        at = ["--store", self.store]
        yield ["verify", copy]
        yield ["diff", made, copy]
        yield ["store", "upload", copy, *at]
        yield ["invoke", "small", "--input", "topic=x", *at]
        yield ["graph", copy]

    def slow_commands(self) -> Iterator[list[str]]:
        """Yield commands that compile the flow, and compare it with the copy or the version."""
        flow = str(self.folder / "flow.py")
        yield ["diff", str(self.folder / "copy"), flow]
        yield ["deploy", flow, "--target", "kubeflow", "--store", self.store, "--dry-run"]

    def violation(self, command: list[str]) -> str:
        """Run a command; return what is wrong with how it ended, or an empty text."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = app.run(command)
            except BaseException as error:
                return f"{type(error).__name__} escaped: {error}"
        text = said.getvalue()
        if code not in CODES or "bug in Kitaru" in text or "Traceback" in text:
            return f"code {code}: {text[-600:]}"
        if code and len(text.strip()) < 10:
            return f"code {code}, without a message"
        return ""


def main() -> int:
    reader = argparse.ArgumentParser(description="Change the files of a build byte by byte.")
    reader.add_argument("--step", type=int, default=1)
    reader.add_argument("--file", default="", help="change only this file")
    chosen = reader.parse_args()
    count = violations = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for case in bench.cases(chosen.step):
            if chosen.file not in ("", case.file):
                continue
            bench.apply(case)
            for command in bench.commands():
                count += 1
                if found := bench.violation(command):
                    violations += 1
                    sys.stdout.write(f"{case} {command[0]}: {found}\n")
    sys.stdout.write(f"{count:,} commands, {violations} violations\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
