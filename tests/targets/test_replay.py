"""A replay of a compiled execution is a compilation: containers start for what runs again alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kitaru_targets import registry
from kitaru_targets.residual_build import stored

from kitaru.client import Executions, KitaruClient
from kitaru.errors import InputError, StateError
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store

from .conftest import REVIEW, Make
from .test_dry_run import Watched

# Every call leaves a mark; a checkpoint of the name in `broken` fails.
CHAIN = """
    from pathlib import Path
    import kitaru
    from kitaru import checkpoint, flow

    MARKS = Path({folder!r})
    LARGE = "x" * 100_000

    def mark(name):
        with (MARKS / "marks").open("a") as file:
            file.write(name + " ")
        broken = MARKS / "broken"
        if broken.exists() and broken.read_text() == name:
            raise ValueError("broken")

    @checkpoint
    def first(n: int) -> list:
        mark("first")
        return [n, LARGE]

    @checkpoint
    def second(xs: list) -> int:
        mark("second")
        return xs[0] + 1

    @checkpoint
    def low(n: int) -> str:
        mark("low")
        return f"low {{n}}"

    @checkpoint
    def high(n: int) -> str:
        mark("high")
        return f"high {{n}}"

    @checkpoint
    def more(n: int) -> int:
        mark("more")
        return n + 1

    @checkpoint
    def last(text: str, n: int, size: int) -> str:
        mark("last")
        return f"{{text}} {{n}} {{size}}"

    @flow
    def chain(n: int, word: str = "w") -> str:
        xs = first(n)
        m = second(xs)
        if m > 10:
            text = high(m)
        else:
            text = low(m)
        while m < 4:
            m = more(m)
        if kitaru.wait(name="ok"):
            return last(text, m, len(xs[1]))
        return "no"
"""


class Pipeline:
    """A build, its runs, and what its steps and checkpoints did since the last look."""

    def __init__(self, build: Any, run: Watched, folder: Path) -> None:
        self.build, self.run, self.folder = build, run, folder

    @property
    def client(self) -> Executions:
        return KitaruClient(self.run.url).executions

    @property
    def worked(self) -> list[tuple[str, str]]:
        """The steps that had something to do; where a target has no conditions others start too."""
        return [(step, status) for step, status in self.run.steps if status != "skip"]

    def marks(self) -> list[str]:
        path = self.folder / "marks"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def done(self, **inputs: Any) -> str:
        found = self.run(self.build, {"ok": True}, **inputs)
        assert found["status"] == "completed", found
        # Where the same run continues after a wait, a step of its own takes the answer.
        takes = sum(step == "ok_answer" for step, _ in self.worked)
        steps = 2 if self.build.target.runs_whole else 5 + takes
        assert len(self.worked) == steps, "each step on the way"
        self.marks()
        return str(found["exec_id"])

    def replay(self, source: str, answers: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Replay an execution as a dry run, to its end or a wait."""
        begun = self.client.replay(source, submit=False, **changes)
        return self.run(self.build, answers, begun.exec_id)


def compiled(make: Make, tmp_path: Path, target: str) -> Pipeline:
    return Pipeline(make(CHAIN.format(folder=str(tmp_path)), target), Watched(tmp_path), tmp_path)


@pytest.fixture
def chain(make: Make, tmp_path: Path) -> Pipeline:
    return compiled(make, tmp_path, "vertex")


@pytest.mark.parametrize("target", registry.names())
def test_only_what_runs_again_starts(make: Make, tmp_path: Path, target: str) -> None:
    chain = compiled(make, tmp_path, target)
    source = chain.done(n=1)
    found = chain.replay(source, {"ok": True}, start="more_2")
    assert found["result"] == "low 2 4 100000"
    # One process runs the whole flow to the wait, another one after the answer.
    first, second = ("start", "ok") if chain.build.target.runs_whole else ("more", "last")
    assert [step for step, _ in chain.worked if step != "ok_answer"] == [first, second]
    assert chain.marks() == ["more", "last"], "the loop continues in its second round"
    found = chain.replay(source, {"ok": False}, start="ok")
    assert found["result"] == "no"
    # A wait asks in a process, and its answer starts the one that does the rest.
    assert chain.worked == [(second, "waiting"), (second, "end")]
    assert chain.marks() == []


def test_a_decision_that_was_taken_is_not_in_the_pipeline(chain: Pipeline, tmp_path: Path) -> None:
    source = chain.done(n=1)
    begun = chain.client.replay(source, start="more", submit=False)
    journal = Journal.open(open_store(chain.run.url), begun.exec_id)
    build = stored(journal, registry.get(chain.build.target.name), tmp_path / "rest")
    document = yaml.safe_load(build.document.read_text())
    assert [step.name for step in build.plan.steps] == ["more", "last"]
    assert set(document["root"]["inputDefinitions"]["parameters"]) == {
        "kitaru_execution",
        "kitaru_store",
    }
    assert "'low'" not in str(document) and "'high'" not in str(document)


def test_another_branch_and_other_inputs_start_at_the_beginning(chain: Pipeline) -> None:
    source = chain.done(n=1)
    found = chain.replay(source, {"ok": True}, inputs={"n": 20})
    assert found["result"] == "high 21 21 100000"
    assert chain.marks() == ["first", "second", "high", "last"]
    found = chain.replay(source, {"ok": True}, start="low", results={"second": 30})
    assert found["result"] == "high 30 30 100000"
    assert chain.marks() == ["high", "last"], "first was adopted, second given"
    with pytest.raises(InputError, match="was int"):
        chain.client.replay(source, inputs={"n": "many"}, submit=False)
    with pytest.raises(InputError, match="'m'"):
        chain.client.replay(source, inputs={"m": 1}, submit=False)


def test_at_the_failure(chain: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("more")
    failed = chain.run(chain.build, n=1)
    assert failed["status"] == "failed"
    chain.marks()
    (tmp_path / "broken").unlink()
    found = chain.replay(failed["exec_id"], {"ok": True}, at_failure=True)
    assert found["result"] == "low 2 4 100000"
    assert chain.marks() == ["more", "more", "last"]


def test_a_replay_that_broke_off_is_resumed_and_one_of_it_is_replayed(
    chain: Pipeline, tmp_path: Path
) -> None:
    source = chain.done(n=1)
    (tmp_path / "broken").write_text("last")
    failed = chain.replay(source, {"ok": True}, start="low")
    assert failed["status"] == "failed"
    assert chain.marks() == ["low", "more", "more", "last"]
    (tmp_path / "broken").unlink()
    found = chain.run(chain.build, None, failed["exec_id"])
    assert found["result"] == "low 2 4 100000"
    assert chain.marks() == ["last"]
    again = chain.replay(failed["exec_id"], start="last")
    assert again["result"] == "low 2 4 100000"
    assert chain.marks() == ["last"] and len(chain.run.steps) == 1


def test_changed_source_is_told_by_both_sides(make: Make, tmp_path: Path) -> None:
    run = Watched(tmp_path)
    source = run(make(REVIEW), {"approve": True}, topic="owls")["exec_id"]
    changed = make(REVIEW.replace("draft(topic, words)", "draft(topic, words + 1)"), out="changed")
    pipeline = Pipeline(changed, run, tmp_path)
    found = pipeline.replay(source, start="publish")
    assert found["status"] == "failed" and found["error"]["type"].endswith("Diverged")
    assert '"draft"' in found["error"]["message"] and "arguments" in found["error"]["message"]
    assert f"replay {source} --from draft" in found["error"]["help"]
    same = make(REVIEW.replace("published: ", "printed: "), out="same")
    found = Pipeline(same, run, tmp_path).replay(source, start="publish")
    assert found["result"] == "printed: owls owls"


def test_the_rest_of_a_deployed_execution_comes_from_the_store_alone(
    make: Make, tmp_path: Path
) -> None:
    run = Watched(tmp_path)
    build = make(REVIEW, "vertex")
    exec_id = run(build, topic="owls")["exec_id"]
    store = open_store(run.url)
    for file in build.directory.iterdir():
        file.unlink()
    KitaruClient(run.url).executions.input(exec_id, True)
    journal = Journal.open(store, exec_id)
    rest = stored(journal, registry.get("vertex"), tmp_path / "rest", image="registry/x:1")
    assert [step.name for step in rest.plan.steps] == ["publish"]
    assert "registry/x:1" in rest.document.read_text()
    parameters = yaml.safe_load(rest.document.read_text())["root"]["inputDefinitions"]["parameters"]
    assert parameters["kitaru_execution"]["defaultValue"] == exec_id
    assert run(rest, {}, exec_id)["result"] == "published: owls owls"
    assert run.steps == [("publish", "end")]


def test_a_step_stops_at_the_next_operation_once_it_is_cancelled(
    make: Make, tmp_path: Path
) -> None:
    run = Watched(tmp_path)
    source = f"""
        from pathlib import Path
        from kitaru import KitaruClient, checkpoint, flow

        @checkpoint
        def work(n: int) -> int:
            with Path({str(tmp_path / "marks")!r}).open("a") as file:
                file.write(f"{{n}} ")
            if n == 1:
                executions = KitaruClient({run.url!r}).executions
                executions.cancel(executions.list()[0]["exec_id"])
            return n

        @flow
        def loops(n: int) -> int:
            done = 0
            try:
                while done < n:
                    done += work(done) + 1 - done
            finally:
                work(done)
            return work(done)
    """
    found = run(make(source), n=5)
    assert found["status"] == "cancelled"
    assert run.steps[0] == ("work", "end")
    assert (tmp_path / "marks").read_text().split() == ["0", "1"]


def test_a_fan_out_runs_again_from_one_of_its_calls_on(make: Make, tmp_path: Path) -> None:
    run = Watched(tmp_path)
    source = f"""
        from pathlib import Path
        from kitaru import checkpoint, flow

        def mark(name):
            with Path({str(tmp_path / "marks")!r}).open("a") as file:
                file.write(name + "\\n")

        @checkpoint
        def split(n: int) -> list[int]:
            mark("split")
            return list(range(n))

        @checkpoint
        def work(x: int) -> int:
            mark(f"work{{x}}")
            return x * x

        @checkpoint
        def join(xs: list[int]) -> int:
            mark("join")
            return sum(xs)

        @flow
        def fans(n: int) -> int:
            futures = [work.submit(x) for x in split(n)]
            return join([future.result() for future in futures])
    """
    pipeline = Pipeline(make(source), run, tmp_path)
    found = run(pipeline.build, n=4)
    assert found["result"] == 14
    made = pipeline.client.lineage(found["exec_id"])
    assert made["join"] == ("work", "work_2", "work_3", "work_4")
    pipeline.marks()
    assert pipeline.replay(found["exec_id"], start="work_3")["result"] == 14
    assert sorted(pipeline.marks()) == ["join", "work2", "work3"]
    again = pipeline.replay(found["exec_id"], start="join", results={"work_2": 100})
    assert again["result"] == 113
    assert pipeline.marks() == ["join"]


def test_code_that_came_in_the_image_is_not_in_the_store(make: Make, tmp_path: Path) -> None:
    run = Watched(tmp_path)
    exec_id = run(make(REVIEW, delivery="image", image="registry/x:1"), topic="owls")["exec_id"]
    journal = Journal.open(open_store(run.url), exec_id)
    with pytest.raises(StateError, match="does not hold the code"):
        stored(journal, registry.get("kubeflow"), tmp_path / "rest")
