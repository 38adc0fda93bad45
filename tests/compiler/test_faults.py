"""A fault in any part of the compiler leaves a correct pipeline and a note that names the part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kitaru_compiler.compile as compiling
import kitaru_compiler.cut.plan as cutting
import kitaru_compiler.passes as passes
import pytest
from kitaru_compiler import Compilation, compile_flow, lint
from kitaru_compiler.compile import check
from kitaru_compiler.diagnostics import faults

from kitaru.cli.app import run
from kitaru.wire.plan import Resources
from tests.differential.harness import run_cut, run_plain

SOURCE = """
from kitaru import checkpoint, flow

@checkpoint
def good(x): return x > 1

@checkpoint
def publish(x): return x

def helper(x):
    return publish(x) + publish(x + 1)

@flow
def main(xs):
    out = [publish(x) for x in xs]
    if any(good(x) for x in xs):
        out.append(helper(len(xs)))
    return out
"""
INPUTS = {"xs": [1, 2]}
NAMES = [one.__name__ for one in passes.PASSES]
# What `cut` consists of: each is called by its name in the module.
PARTS_OF_CUT = [
    "build_blocks",
    "live_variables",
    "bound_variables",
    "Cutter",
    "generate",
    "pickles",
]
CHECKS = ["secrets", "hidden_order", "crossing", "advise"]
ADVISERS = sorted({one.__name__ for one in (*lint.FLOW, *lint.CHECKPOINT)})


class Injected(Exception):
    pass


def broken(*_: Any, **__: Any) -> Any:
    raise Injected("on purpose")


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let faults become notes, as they do for users; `conftest.py` set the variable."""
    monkeypatch.delenv(faults.VARIABLE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(SOURCE)
    return path


def named(name: str) -> Callable[..., Any]:
    def failing(*args: Any) -> Any:
        return broken(*args)

    failing.__name__ = name
    return failing


def correct_and_whole(path: Path, part: str) -> Compilation:
    compilation = compile_flow(path)
    (block,) = compilation.plan.blocks
    assert (block.kind, block.reason, block.may_wait) == ("flow", "KIT325", True)
    assert run_cut(compilation, path, INPUTS).same() == run_plain(compilation, path, INPUTS).same()
    told = [d for d in compilation.diagnostics if d.code == "KIT325"]
    assert f"`{part}` failed (Injected: on purpose at test_faults.py:" in told[0].message
    assert "please report it" in told[0].help
    assert [d.message for d in check(path)[0] if d.code == "KIT325"] == [told[0].message]
    return compilation


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_that_fails_leaves_the_flow_whole(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = tuple(named(name) if p.__name__ == name else p for p in passes.PASSES)
    monkeypatch.setattr(passes, "PASSES", replaced)
    correct_and_whole(path, name)


@pytest.mark.parametrize("name", ["lower", "inline"])
def test_so_does_what_stands_around_the_passes(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, name, broken)
    correct_and_whole(path, name)


def test_so_does_marking_what_the_flow_calls(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitaru_compiler.frontend.calls.mark_durable", broken)
    correct_and_whole(path, "mark")


@pytest.mark.parametrize("name", PARTS_OF_CUT)
def test_so_does_each_part_of_cutting(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, name, broken)
    correct_and_whole(path, "cut")


def test_a_pass_that_breaks_the_normal_form_is_found_and_leaves_the_flow_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tuple(one for one in passes.PASSES if one.__name__ not in ("regions", "hoist"))
    monkeypatch.setattr(passes, "PASSES", without)
    compilation = compile_flow(path)
    assert [block.kind for block in compilation.plan.blocks] == ["flow"]
    (told,) = [d for d in compilation.diagnostics if d.code == "KIT325"]
    assert "`verify` failed (NotNormal: line " in told.message
    assert run_cut(compilation, path, INPUTS).same() == run_plain(compilation, path, INPUTS).same()


def test_a_helper_on_which_a_pass_fails_stays_one_call(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hoist(ir: Any) -> Any:
        return broken() if ir.name == "helper" else real(ir)

    (real,) = [one for one in passes.PASSES if one.__name__ == "hoist"]
    replaced = tuple(hoist if one is real else one for one in passes.PASSES)
    monkeypatch.setattr(passes, "PASSES", replaced)
    compilation = compile_flow(path)
    (told,) = [d for d in compilation.diagnostics if d.code == "KIT325"]
    assert "in `helper`, Kitaru's own `hoist` failed" in told.message and told.span.line == 17
    assert len(compilation.plan.blocks) > 3
    assert run_cut(compilation, path, INPUTS).same() == run_plain(compilation, path, INPUTS).same()


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_fails_is_missing_alone(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compile_flow(path)
    monkeypatch.setattr(compiling, name, broken)
    compilation = compile_flow(path)
    assert compilation.plan.blocks == before.plan.blocks
    told = [d.message for d in compilation.diagnostics if d.code == "KIT325"]
    assert told and all(m.startswith(f"Kitaru's own `{name}` failed (Injected") for m in told)


@pytest.mark.parametrize("name", ADVISERS)
def test_an_adviser_that_fails_is_missing_alone(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for family in ("FLOW", "CHECKPOINT"):
        replaced = [named(name) if a.__name__ == name else a for a in getattr(lint, family)]
        monkeypatch.setattr(lint, family, tuple(replaced))
    told = [d.message for d in check(path)[0] if d.code == "KIT325"]
    assert told and all(m.startswith(f"Kitaru's own `{name}` failed (Injected") for m in told)


def test_who_asks_for_the_traceback_gets_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, "1")
    monkeypatch.setattr(cutting, "generate", broken)
    with pytest.raises(Injected):
        compile_flow(path)


def test_the_command_ends_well_and_shows_the_note(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cutting, "generate", broken)
    assert run(["compile", str(path), "-t", "kubeflow", "-o", str(path.parent / "o")]) == 0
    assert "note[KIT325]" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["mark", "lower", "expand", "cut"])
def test_a_flow_that_is_whole_by_a_fault_gets_what_its_checkpoints_need(
    part: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = '@checkpoint(memory="8Gi", cpu=2, gpu=1, pickle=True)\ndef publish'
    path.write_text(SOURCE.replace("@checkpoint\ndef publish", asking))
    match part:
        case "mark":
            monkeypatch.setattr("kitaru_compiler.frontend.calls.mark_durable", broken)
        case "lower":
            monkeypatch.setattr(compiling, "lower", broken)
        case "cut":
            monkeypatch.setattr(cutting, "generate", broken)
        case _:
            monkeypatch.setattr(passes, "PASSES", (named("expand"),))
    plan = correct_and_whole(path, part).plan
    assert plan.steps[0].resources == Resources(cpu="2", memory="8Gi", gpu=1)
    assert plan.pickles
