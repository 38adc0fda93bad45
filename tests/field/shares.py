"""Shares of the calls in ordinary flows that become steps, per target and reason.

    python -m tests.field.shares                     # both samples of `ordinary`, every target
    python -m tests.field.shares --target kubeflow --reasons flows.py

A call counts as a step if it is a step of its own, alone in a `try`, or a member of a fan-out whose
members are nodes. Calls of a region count once for each checkpoint that the region may call. Waits,
logs and memory do not count, because they need no step. A call that is inlined or unrolled several
times counts once.

The first sample, 39 flows, was written while the compiler learnt to cut more. The second, 40 flows,
was written before local functions, `try` bodies and tables were cut. Its reasons were read before
the tables were: the form `TABLE.get(key, default)` comes from it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kitaru_compiler.compile import ANY_TARGET, compile_flow
from kitaru_compiler.frontend.flows import find_flows
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.project import open_project
from kitaru_targets import registry

from kitaru.wire.plan import Block

FOLDER = Path(__file__).with_name("ordinary")
SAMPLES = ("first", "second")
STEPS = ("step", "try of one call", "fan-out")
NO_STEP = ("wait", "log")


@dataclass
class Share:
    """The number of calls by what became of them: a way to be a step, or a rule's code."""

    calls: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def steps(self) -> float:
        """The percentage of calls that are steps."""
        good = sum(self.calls[kind] for kind in STEPS)
        return 100 * good / max(self.calls.total(), 1)


def flows_of(path: Path) -> list[str]:
    """Return the names of the flows in a file."""
    project, source = open_project(path)
    return [flow.variable for flow in find_flows(source, Names(project))]


def share(paths: Iterable[Path], target: str) -> Share:
    """Compile every flow of the files for a target, and count."""
    found = Share()
    profile = ANY_TARGET if target == "any" else registry.get(target).profile
    for path in paths:
        for flow in flows_of(path):
            made = compile_flow(path, flow, profile=profile)
            noted = [d.span for d in made.diagnostics if d.code == "KIT312"]
            native = {name for step in made.plan.steps if step.per_item for name in step.blocks}
            seen = set()
            for block in made.plan.blocks:
                calls = [c for c in block.calls if c not in NO_STEP and not c.startswith("memory.")]
                key = (block.kind, block.span, tuple(calls))
                if not calls or key in seen:
                    continue
                seen.add(key)
                kind = _kind(block, block.name in native)
                place = block.span
                if kind == "KIT312" and not any(
                    place.file == span.file and place.line <= span.line <= place.end_line
                    for span in noted
                ):
                    kind = "try of one call"
                found.calls[kind] += len(calls)
                if kind not in STEPS:
                    line = f"{path.name}:{place.line} {flow}: {len(calls)} {kind} {block.why}"
                    found.reasons.append(line)
    return found


def _kind(block: Block, is_native: bool) -> str:
    match block.kind:
        case "checkpoint" | "llm":
            return "step"
        case "fan":
            return "fan-out" if is_native else "fan-out on threads"
    return block.reason


def main(arguments: list[str]) -> int:
    """Print the shares; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.field.shares")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--target", choices=["any", *registry.names()])
    parser.add_argument("--reasons", action="store_true", help="list the calls in regions")
    given = parser.parse_args(arguments)
    samples = {name: sorted(FOLDER.glob(f"{name}_*.py")) for name in SAMPLES}
    for name, paths in {"files": given.files}.items() if given.files else samples.items():
        for target in [given.target] if given.target else ["any", *registry.names()]:
            found = share(paths, target)
            kinds = ", ".join(f"{kind} {n}" for kind, n in found.calls.most_common())
            total = found.calls.total()
            sys.stdout.write(f"{name} {target}: {found.steps:.1f}% of {total} calls: {kinds}\n")
            sys.stdout.writelines(f"    {line}\n" for line in found.reasons if given.reasons)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
