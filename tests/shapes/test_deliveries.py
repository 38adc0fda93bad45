"""Files beside the modules reach the steps of every target, however the code is delivered."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, dry_run, registry

from kitaru.runtime.codec import decode
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store

FLOW = """\
from importlib import resources
from pathlib import Path
from kitaru import checkpoint, flow

HERE = Path(__file__).parent
PROMPTS = {p.stem: p.read_text() for p in (HERE / "prompts").glob("*.md")}

@checkpoint
def work(x: int) -> list:
    return [PROMPTS, open("cwd.txt").read(), (HERE / "one.txt").read_text()]

@checkpoint
def last(found: list) -> list:
    return [*found, (resources.files("pkg") / "in.json").read_text()]

@flow
def main(x: int) -> list:
    import pkg
    return last(work(x))
"""
FILES = {
    "flow.py": FLOW, "prompts/a.md": "A", "prompts/b.md": "B", "cwd.txt": "C", "one.txt": "1",
    "pkg/__init__.py": "", "pkg/in.json": "{}",
}  # fmt: skip
IMAGE = "registry.example/flows@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("target", "delivery"),
    [
        *[(name, "store") for name in ("airflow", "azureml", "kubeflow", "sagemaker", "vertex")],
        ("stepfunctions", "store"),
        ("stepfunctions", "image"),
        ("argo", "store"),
        ("argo", "image"),
        ("kubeflow", "inline"),
        *[("kubernetes", name) for name in ("store", "image", "inline")],
        ("airflow", "image"),
    ],
)
def test_files_reach_the_steps(target: str, delivery: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    chosen = registry.get(target)
    compiled = compile_flow(tmp_path / "project" / "flow.py", profile=chosen.profile)
    image = None if delivery == "store" else IMAGE
    made = build.write(compiled, chosen, tmp_path / "out", image=image, delivery=delivery)
    url = f"sqlite:{tmp_path / 'x.db'}"
    exec_id = dry_run.run(made, inputs={"x": 1}, answers={}, store_url=url)
    store = open_store(url)
    journal = Journal.open(store, exec_id)
    end = journal.end()
    assert end is not None, journal.state()
    result = decode(journal.fetch(end.result))
    store.close()
    assert result == [{"a": "A", "b": "B"}, "C", "1", "{}"]
