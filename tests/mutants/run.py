"""Change the code in small ways, and report the changes that no test notices: PART [MODULE …].

usage: python3 dev.py mutants journal states.py --minutes 8

Cosmic Ray makes the changes, in the files of a copy of the repository, because steps and commands
are processes that import Kitaru from files: a library that changes code in memory would not reach
them. A sample is drawn at random, the same for the same seed. `survivors.toml` lists the changes
that were looked at and change nothing that a promise is about; these are counted and not shown.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "mutants"
TRIAGE = ROOT / "tests" / "mutants" / "survivors.toml"
# Of each part: its folder, and the tests that are to notice, the fastest first.
PARTS = {
    "engine": ("kitaru/runtime/engine", ["tests/sdk", "tests/step", "tests/schema"]),
    "journal": ("kitaru/runtime/journal", ["tests/journal", "tests/cache", "tests/fire"]),
    "cut": ("compiler/kitaru_compiler/cut", ["tests/compiler", "tests/differential"]),
    "codec": ("kitaru/runtime/codec", ["tests/codec", "tests/fingerprint"]),
}
# A change that makes a loop endless is noticed after so many times what the tests take without it.
PATIENCE = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="dev.py mutants")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("module", nargs="*", help="only these files of the part")
    parser.add_argument("--sample", type=int, default=50, help="how many changes to try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="start no further change then")
    parser.add_argument("--tests", nargs="+", help="instead of the part's own")
    chosen = parser.parse_args()
    folder, tests = PARTS[chosen.part]
    copy_repository()
    os.chdir(COPY)
    paths = sorted(Path(folder).glob("*.py"))
    paths = [path for path in paths if not chosen.module or path.name in chosen.module]
    with use_db("session.sqlite", WorkDB.Mode.create) as session:
        init(paths, session, {})
        mutants = [m for item in session.work_items for m in item.mutations if matters(m)]
    # In an order of their own: the session has none.
    mutants.sort(key=lambda m: (str(m.module_path), m.start_pos, m.operator_name, m.occurrence))
    drawn = random.Random(chosen.seed).sample(mutants, min(chosen.sample, len(mutants)))
    print(f"{len(mutants)} changes of {len(paths)} files, {len(drawn)} drawn", flush=True)
    pytest = [f"{COPY}/.venv/bin/python", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command = shlex.join([*pytest, *(chosen.tests or tests)])
    began = time.monotonic()
    outcome, output = run_tests(command, 3600)
    limit = 10 + PATIENCE * (time.monotonic() - began)
    if outcome is not TestOutcome.SURVIVED:
        print(f"the tests fail without any change:\n{output[-3000:]}")
        return 1
    return report(run(drawn, command, limit, time.monotonic() + chosen.minutes * 60))


def copy_repository() -> None:
    """Make the copy what git knows of the repository now, with an environment of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    if not (COPY / ".envs").exists():
        (COPY / ".envs").symlink_to(ROOT / ".envs")
    subprocess.run([sys.executable, "-c", "import dev; dev.developers()"], cwd=COPY, check=True)
    # Runs of changed code write no bytecode, so that none of it is found later. What does not
    # change is compiled here once, and known by its content.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."]
    subprocess.run([COPY / ".venv" / "bin" / "python", *compiling], cwd=COPY, check=False)


def matters(mutant: Any) -> bool:
    """Whether a change is one of code that runs: annotations are never evaluated."""
    line, column = mutant.start_pos
    return not any(
        (node.lineno, node.col_offset) <= (line, column) < (node.end_lineno, node.end_col_offset)
        for node in annotations(mutant.module_path)
    )


def annotations(path: Path) -> Iterator[Any]:
    for node in ast.walk(ast.parse(path.read_text())):
        for name in ("annotation", "returns"):
            if (found := getattr(node, name, None)) is not None:
                yield found


def run(drawn: list[Any], command: str, limit: float, end: float) -> Iterator[tuple[Any, Any]]:
    """Try each change; return it with what came of it, until the time is over."""
    for mutant in drawn:
        if time.monotonic() > end:
            return
        yield mutant, mutate_and_test([mutant], command, limit)


def report(tried: Iterator[tuple[Any, Any]]) -> int:
    known = {(e["module"], e["before"], e["after"]) for e in triaged()}
    counts: Counter[str] = Counter()
    for mutant, result in tried:
        module = mutant.module_path.as_posix()
        lines = [line for line in (result.diff or "").splitlines() if line[:1] in ("-", "+")]
        changed = [line for line in lines if line[:3] not in ("---", "+++")]
        before, after = (
            "\n".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+"
        )
        if result.is_killed:
            counts["noticed"] += 1
        elif (module, before, after) in known:
            counts["known to change nothing"] += 1
        else:
            counts["NOT noticed"] += 1
            print(
                f"\n{module}:{mutant.start_pos[0]} in {mutant.definition_name}", *changed, sep="\n"
            )
        sys.stdout.flush()
    print("\n" + ", ".join(f"{number} {what}" for what, number in counts.items()))
    return bool(counts["NOT noticed"])


def triaged() -> list[dict[str, str]]:
    """Return the changes that were looked at: module, lines before and after, and the reason."""
    found: list[dict[str, str]] = tomllib.loads(TRIAGE.read_text()).get("mutant", [])
    return found


if __name__ == "__main__":
    raise SystemExit(main())
