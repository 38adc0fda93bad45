"""Each kind of change between two builds is found, named, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.compare import Change, compare, of_build

UTIL = """\
LIMIT = 3

def clean(text):
    return text[:LIMIT]

def unused():
    return 1
"""
FLOW = """\
import kitaru
from kitaru import checkpoint, flow
from util import clean

@checkpoint
def fetch(topic):
    return clean(topic)

@checkpoint
def draft(text, words=1):
    return text * words

@checkpoint
def publish(text):
    return text

@flow
def review(topic: str, words: int = 2):
    text = fetch(topic)
    if len(text) < 20:
        return "short"
    text = draft(text, words)
    ok = kitaru.wait(name="ok", schema=bool)
    if ok:
        publish(text)
    return text
"""
Compare = Callable[..., tuple[Change, ...]]


@pytest.fixture
def changed(tmp_path: Path) -> Compare:
    """Return a function that says what replacing `old` by `new` in flow or util changes."""

    def write(name: str, flow: str, util: str, **options: Any) -> build.Build:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "flow.py").write_text(flow)
        (folder / "util.py").write_text(util)
        (folder / "pyproject.toml").write_text(options.pop("project", "[tool.kitaru]\n"))
        target = registry.get(options.pop("target", "kubeflow"))
        granularity = options.pop("granularity", "checkpoint")
        made = compile_flow(folder / "flow.py", granularity=granularity, profile=target.profile)
        return build.write(made, target, folder / "out", **options)

    def made(old: str = "", new: str = "", *, util: bool = False, **options: Any) -> Any:
        assert old in (UTIL if util else FLOW)
        flow, helper = (FLOW, UTIL.replace(old, new)) if util else (FLOW.replace(old, new), UTIL)
        if not old:
            flow, helper = FLOW, UTIL
        old_build, new_build = write("a", FLOW, UTIL), write("b", flow, helper, **options)
        return compare(of_build(old_build), of_build(new_build)).changes

    return made


def why(changes: tuple[Change, ...], name: str) -> dict[str, tuple[Any, Any]]:
    """The reasons of one change by what they are of, files left out: every change is in one."""
    (found,) = [change for change in changes if change.name == name]
    assert found.how == "changed"
    return {r.what: (r.before, r.after) for r in found.reasons if not r.what.startswith("file ")}


def names(changes: tuple[Change, ...]) -> set[str]:
    return {f"{change.how} {change.kind} {change.name}" for change in changes}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("    text = fetch(topic)", "    # a comment\n\n    text = fetch( topic )"),
        ("def fetch(topic):\n", 'def fetch(topic):\n    """Now with a docstring."""\n'),
    ],
)
def test_nothing_comments_layout_and_docstrings(old: str, new: str, changed: Compare) -> None:
    assert changed(old, new) == ()


def test_the_code_of_a_checkpoint(changed: Compare) -> None:
    changes = changed("return text * words", "return text * words + '!'")
    assert names(changes) == {"changed step draft", "changed flow review"}
    assert why(changes, "draft") == {"code of draft": ("flow.py:10", "flow.py:10")}


def test_the_code_of_what_a_checkpoint_calls_in_another_file(changed: Compare) -> None:
    changes = changed("LIMIT = 3", "LIMIT = 4", util=True)
    assert names(changes) == {"changed step fetch", "changed flow review"}
    assert why(changes, "fetch") == {"code of LIMIT": ("util.py:1", "util.py:1")}


def test_code_that_no_step_comes_to_is_a_change_of_its_file(changed: Compare) -> None:
    (change,) = changed("return 1", "return 2", util=True)
    assert [reason.what for reason in change.reasons] == ["file util.py"]


def test_the_lines_of_the_flow(changed: Compare) -> None:
    changes = changed("draft(text, words)", "draft(text, words + 1)")
    (step,) = [change for change in changes if change.kind == "step"]
    assert (step.name, step.place) == ("draft", "flow.py:22")
    assert step.reasons[0].lines == (
        "- text = draft(text, words)", "+ text = draft(text, words + 1)",
    )  # fmt: skip


def test_a_step_added_and_removed(changed: Compare) -> None:
    assert {"added step publish_2", "changed step publish"} <= names(
        changed("        publish(text)", "        publish(text)\n        publish(text)")
    )


def test_a_step_removed(changed: Compare) -> None:
    changes = changed("    if ok:\n        publish(text)\n", "")
    assert "removed step publish" in names(changes)
    (gone,) = [change for change in changes if change.how == "removed"]
    assert (gone.place, gone.reasons) == ("flow.py:25", ())


def test_inputs(changed: Compare) -> None:
    changes = changed("draft(text, words)", "draft(text, topic)")
    reasons = why(changes, "draft")
    assert reasons["inputs"] == (("words", "text"), ("topic", "text"))
    assert "changed step publish" not in names(changes)


def test_retries_and_resources(changed: Compare) -> None:
    changes = changed(
        "@checkpoint\ndef draft", '@checkpoint(retries=2, cpu=2, memory="4Gi", gpu=1)\ndef draft'
    )
    reasons = why(changes, "draft")
    assert reasons["retries"] == (0, 2)
    assert reasons["resources"] == ("", "cpu 2, memory 4Gi, gpu 1")
    assert "changed step fetch" not in names(changes)


def test_isolation(changed: Compare) -> None:
    changes = changed("@checkpoint\ndef draft", '@checkpoint(runtime="isolated")\ndef draft')
    assert why(changes, "draft")["isolated"] == (False, True)


def test_a_condition_is_of_the_step_that_asks_and_of_those_that_it_leads_to(
    changed: Compare,
) -> None:
    changes = changed("if len(text) < 20", "if len(text) < 30")
    assert why(changes, "draft") == {
        "comes after": (
            ("fetch → if len(text) < 20: false",),
            ("fetch → if len(text) < 30: false",),
        )
    }
    assert set(why(changes, "fetch")) == {"code"}
    assert "changed step publish" not in names(changes)


def test_a_condition_turned_around(changed: Compare) -> None:
    changes = changed(
        "if ok:\n        publish(text)", "if ok:\n        pass\n    else:\n        publish(text)"
    )
    assert why(changes, "publish") == {
        "comes after": (("wait ok → if ok: true",), ("wait ok → if ok: false",))
    }


def test_order(changed: Compare) -> None:
    both = "    draft(text)\n    fetch(topic)\n"
    changes = changed("    text = fetch(topic)\n", f"    text = topic\n{both}")
    assert why(changes, "fetch")["comes after"] == (("start",), ("draft",))


def test_a_wait(changed: Compare) -> None:
    changes = changed("schema=bool", 'schema=bool, question="Good?"')
    assert names(changes) == {"changed wait ok", "changed flow review"}
    assert set(why(changes, "ok")) == {"code"}


def test_a_wait_of_another_name_is_another_wait(changed: Compare) -> None:
    changes = changed('name="ok"', 'name="fine"')
    assert {"removed wait ok", "added wait fine"} <= names(changes)
    assert why(changes, "publish")["comes after"][1] == ("wait fine → if ok: true",)


def test_parameters_of_the_flow(changed: Compare) -> None:
    changes = changed("words: int = 2", 'words: int = 3, tone: str = "dry"')
    assert why(changes, "review") == {
        "input words": ("int, default 2", "int, default 3"),
        "input tone": (None, 'str, default "dry"'),
    }


def test_the_nodes_of_a_fan_out(changed: Compare) -> None:
    old = "    text = draft(text, words)\n"
    new = "    drafts = [f.result() for f in draft.map(text.split())]\n    text = drafts[0]\n"
    assert "added step gather_draft" in names(changed(old, new))


def test_how_many_calls_run_at_a_time(changed: Compare) -> None:
    changes = changed(project="[tool.kitaru]\nmax_parallel = 2\n")
    assert why(changes, "review") == {"calls at a time": (8, 2)}


def test_what_the_flow_runs_on(changed: Compare) -> None:
    project = '[tool.kitaru]\nmodels = {fast = "openai/x"}\nenvironment = {LOG = "debug"}\n'
    changes = changed(project=project, image="else:1", store="s3://bucket", target="vertex")
    reasons = why(changes, "review")
    assert reasons["target"] == ("kubeflow", "vertex")
    assert reasons["image"] == ("python:3.11-slim", "else:1")
    assert reasons["store"] == ("", "s3://bucket")
    assert reasons["model fast"] == (None, "openai/x")
    assert reasons["variable LOG"] == (None, "debug")
    assert [what for what in reasons if what.startswith("requirement httpx")]
    assert not [what for what in reasons if what.startswith("requirement litellm")]
    assert {change.kind for change in changes} == {"flow"}


def test_granularity_moves_work_between_steps(changed: Compare) -> None:
    changes = changed(granularity="single")
    assert {"added step start", "removed step draft", "removed step fetch"} <= names(changes)
    assert why(changes, "review") == {"granularity": ("checkpoint", "single")}
