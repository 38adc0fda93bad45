"""Generate small projects: where the flow's file is, what it is called, how it imports and reads.

A project runs three ways: under plain Python, where `flow` and `checkpoint` return their argument;
under `kitaru run`; and under `kitaru dry-run`, whose steps see only the bundle. All three
print the same result, or `kitaru check` refuses the project with the reason.

    .venv/bin/python -m tests.shapes.generated 500 1    # 500 projects from seed 1
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STUB = """\
def checkpoint(function): return function
flow = checkpoint
"""
LAYOUTS = ("flat", "package", "src", "namespace", "script folder", "package main", "folder main")
FILES = (
    "agent", "steps", "plan", "main", "my.flow.v2", "my-flow", "1st", "übung", "bundle", "runtime",
    "bootstrap", "lock", "project", "flow", "checkpoint", "test_agent", "a b", "class",
)  # fmt: skip
HELPERS = ("helper", "steps", "plan", "wire", "runtime", "utils", "graph", "compiler", "models")
# `kitaru check` refuses these: another module has the name.
TAKEN = ("email", "calendar", "random", "string", "select", "logging", "click", "platform", "yaml")
IMPORTS = (
    "import", "from", "alias", "in the flow", "in the checkpoint", "guarded", "type checking",
    "import_module", "import_module f-string", "iter_modules", "added root", "relative",
)  # fmt: skip
READS = ("nothing", "file", "glob", "joined", "f-string", "constant", "resources", "cwd", "above")


@dataclass
class Project:
    """One generated project: files by path, how it is named to Python and to Kitaru."""

    files: dict[str, str] = field(default_factory=dict)
    python: list[str] = field(default_factory=list)
    kitaru: str = ""
    path: str = ""
    refused: bool = False
    shape: str = ""


def generate(seed: int) -> Project:
    """Return the project of a seed."""
    rng = random.Random(seed)
    layout, style, reads = rng.choice(LAYOUTS), rng.choice(IMPORTS), rng.choice(READS)
    helper, name = rng.choice(HELPERS), rng.choice(FILES)
    refused = rng.random() < 0.15
    if refused:
        helper = rng.choice(TAKEN)
    packaged = layout in ("package", "src", "package main")
    if style == "relative" and not packaged:
        style = "from"
    if layout not in ("flat", "script folder"):
        # Named as a module, a file has a name that Python can import.
        name = rng.choice([n for n in FILES if n.isidentifier() and n != "class"])
    if layout in ("package main", "folder main"):
        name = "__main__"
    if helper == name:
        helper = "helper"
    if reads == "resources" and not packaged:
        reads = "file"
    project = Project(shape=f"{layout}, {name}, {helper}, {style}, {reads}")
    folder = {
        "flat": "", "package": "pkg", "src": "src/pkg", "namespace": "flows",
        "script folder": "scripts", "package main": "pkg", "folder main": "app",
    }[layout]  # fmt: skip
    root = {"flat": "", "package": "", "src": "src", "namespace": ""}.get(layout, folder)
    root = "" if layout == "package main" else root
    prefix = f"{folder}/" if folder else ""
    home, dotted = _helper(layout, style, helper, prefix, root, project)
    project.refused = refused and "." not in dotted
    project.files[f"{prefix}{name}.py"] = _flow(style, dotted, reads, home)
    _data(reads, prefix, project)
    _entry(layout, name, prefix, project)
    return project


def _helper(
    layout: str, style: str, helper: str, prefix: str, root: str, project: Project
) -> tuple[str, str]:
    """Write the helper module; return its folder relative to the flow's, and its dotted name."""
    code = (
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Box:\n    n: int\n\n\n"
        "def go(x):\n    return Box(x.n * 2 if isinstance(x, Box) else x * 2)\n"
    )
    if layout in ("package", "src", "package main"):
        project.files[f"{prefix}__init__.py"] = ""
        if style == "added root":
            project.files[f"{prefix}lib/{helper}.py"] = code
            return "lib", helper
        project.files[f"{prefix}tools/__init__.py"] = "from . import extra\n"
        project.files[f"{prefix}tools/extra.py"] = "EXTRA = 1\n"
        project.files[f"{prefix}tools/{helper}.py"] = code
        return "tools", f"pkg.tools.{helper}"
    if style == "added root":
        project.files[f"{prefix}lib/{helper}.py"] = code
        # Two files of one name: the added root goes first.
        project.files[f"{prefix}other/{helper}.py"] = "def go(x): return 0\n"
        return "lib", helper
    below = f"{root}/" if root else ""
    if style in ("iter_modules", "import_module f-string") or layout == "namespace":
        project.files[f"{below}corp/{helper}.py"] = code
        return "corp", f"corp.{helper}"
    project.files[f"{below}{helper}.py"] = code
    return "", helper


def _flow(style: str, dotted: str, reads: str, home: str) -> str:
    package, _, last = dotted.rpartition(".")
    top, lazy, inside, call = "", "", "", "h.go(x)"
    plain = f"import {dotted} as h"
    match style:
        case "import":
            top, call = f"import {dotted}", f"{dotted}.go(x)"
        case "from":
            top, call = f"from {dotted} import go", "go(x)"
        case "alias":
            top = plain
        case "in the flow":
            lazy, call = f"from {dotted} import go", "x.n * 2 if hasattr(x, 'n') else x * 2"
        case "in the checkpoint":
            inside = plain
        case "guarded":
            top = f"try:\n    {plain}\nexcept ImportError:\n    h = None"
        case "type checking":
            top = f"if TYPE_CHECKING:\n    import pandas\n{plain}"
        case "import_module":
            top = f'h = importlib.import_module("{dotted}")'
        case "import_module f-string":
            inside = f'name = "{last}"\n    h = importlib.import_module(f"{package}.{{name}}")'
            if not package:
                inside = plain
        case "iter_modules":
            top = plain
            if package:
                names = f"[m.name for m in pkgutil.iter_modules({package}.__path__)]"
                top = f"import {package}\nNAMES = {names}\n{plain}"
                call = f'h.go(x) if "{last}" in NAMES else None'
        case "added root":
            top = f'sys.path.insert(0, str(HERE / "{home}"))\n{plain}'
        case "relative":
            top = f"from .tools import {last} as h"
    text = {
        "nothing": '""',
        "file": '(HERE / "data" / "a.txt").read_text()',
        "glob": '"".join(p.read_text() for p in sorted((HERE / "data").glob("*.txt")))',
        "joined": 'open(os.path.join(os.path.dirname(__file__), "data", "a.txt")).read()',
        "f-string": '(lambda n: (DATA / f"{n}.txt").read_text())("a")',
        "constant": "TEXT",
        "resources": '(resources.files("pkg") / "data" / "a.txt").read_text()',
        "cwd": 'open("cwd.txt").read()',
        "above": '(HERE.parent / "shared" / "a.txt").read_text()',
    }[reads]
    lines = [
        "import importlib, json, os, pkgutil, sys",
        "from importlib import resources",
        "from pathlib import Path",
        "from typing import TYPE_CHECKING",
        "from kitaru import checkpoint, flow",
        "HERE = Path(__file__).resolve().parent",
        'DATA = HERE / "data"',
        *(['TEXT = (DATA / "a.txt").read_text()'] if reads == "constant" else []),
        top,
        "@checkpoint",
        "def work(x):",
        f"    {inside}" if inside else "    pass",
        f"    return {call}",
        "@checkpoint",
        "def read(x):",
        f"    return [getattr(x, 'n', x), {text}]",
        "@flow",
        "def main(n: int):",
        f"    {lazy}" if lazy else "    pass",
        "    first = work(n)",
        "    second = work(first)",
        f"    third = {'go(second)' if lazy else 'second'}",
        "    return read(third)",
        'if __name__ == "__main__":',
        "    print(json.dumps(main(3)))",
    ]
    return "\n".join(lines) + "\n"


def _data(reads: str, prefix: str, project: Project) -> None:
    if reads in ("file", "glob", "joined", "f-string", "constant", "resources"):
        project.files |= {f"{prefix}data/a.txt": "A", f"{prefix}data/b.txt": "B"}
    if reads == "cwd":
        project.files["cwd.txt"] = "C"
    if reads == "above":
        above = prefix.rstrip("/").rpartition("/")[0]
        shared = f"{above}/shared/a.txt" if above else "shared/a.txt"
        project.files[shared if prefix else "../shared/a.txt"] = "S"
    project.files["pyproject.toml"] = ""
    project.files[".gitignore"] = "*.log\n"


def _entry(layout: str, name: str, prefix: str, project: Project) -> None:
    project.path = f"{prefix}{name}.py"
    project.kitaru, project.python = f"{project.path}:main", [project.path]
    if layout == "namespace":
        project.kitaru, project.python = f"flows.{name}:main", ["-m", f"flows.{name}"]
    elif layout == "package main":
        project.python = ["-m", "pkg"]
    elif layout == "folder main":
        project.python = ["app"]
    elif layout == "package" or layout == "src":
        project.python = ["-m", f"pkg.{name}"]


@dataclass
class Outcome:
    """What became of a project: `results` by way, or the findings that refused it."""

    results: dict[str, Any]
    refused: bool
    output: str


def execute(project: Project, folder: Path) -> Outcome:
    """Write a project below `folder` and run it in all ways."""
    work = folder / "work"
    for name, text in project.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "stub").mkdir()
    (folder / "stub" / "kitaru.py").write_text(STUB)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "PYTHON"))}
    kept |= {"XDG_CONFIG_HOME": str(folder / "xdg"), "NO_COLOR": "1"}

    def run(*command: str, path: str = "") -> subprocess.CompletedProcess[str]:
        # The console script, unlike `python -m`, has no working directory on its path.
        start = ["-P", "-m", "kitaru"] if not path else []
        environment = kept | ({"PYTHONPATH": path} if path else {})
        return subprocess.run(
            [sys.executable, *start, *command], cwd=work, env=environment, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip

    checked = run("check", project.kitaru)
    if checked.returncode:
        return Outcome({}, "KIT505" in checked.stdout + checked.stderr, checked.stdout)
    plain = run(*project.python, path=f"{folder / 'stub'}{os.pathsep}{work / 'src'}")
    common = (project.kitaru, "-i", "n=3", "--json")
    local = run("run", *common)
    dry = run("dry-run", *common, "-t", "kubeflow", "--store", f"sqlite:{folder / 'dry.db'}")
    results: dict[str, Any] = {}
    for way, done in {"plain": plain, "run": local, "dry run": dry}.items():
        results[way] = f"exit {done.returncode}"
        if done.returncode == 0:
            found = json.loads(done.stdout)
            results[way] = found if way == "plain" else found["result"]
    output = "".join(f"{d.args}\n{d.stdout}{d.stderr}\n" for d in (checked, plain, local, dry))
    return Outcome(results, False, output)


def disagreement(project: Project, outcome: Outcome) -> str:
    """Return what is wrong with an outcome, empty for nothing."""
    if project.refused:
        return "" if outcome.refused else f"not refused: {outcome.results}"
    if outcome.refused or not outcome.results:
        return "refused"
    plain = outcome.results["plain"]
    same = all(result == plain for result in outcome.results.values())
    return "" if same and not isinstance(plain, str) else str(outcome.results)


def main(count: int, seed: int) -> int:
    refused = 0
    for number in range(seed, seed + count):
        project = generate(number)
        with tempfile.TemporaryDirectory(prefix="kitaru-shape-") as folder:
            outcome = execute(project, Path(folder))
        refused += outcome.refused
        if wrong := disagreement(project, outcome):
            sys.stdout.write(f"{number}: {project.shape}\n{wrong}\n{outcome.output}\n")
            for name, text in project.files.items():
                sys.stdout.write(f"--- {name}\n{text}")
            return 1
        sys.stderr.write(f"\r{number - seed + 1} of {count}")
    sys.stdout.write(f"{count} projects agree, {refused} of them refused with the reason\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
