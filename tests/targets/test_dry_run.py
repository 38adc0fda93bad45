"""The emitted document, executed here, has the same result as the flow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import dry_run
from kitaru_targets.dry_run import Ended

from kitaru.client import KitaruClient
from kitaru.errors import AnswerInvalid, InputError, StateError, UsageError

from .conftest import REVIEW, Make

# What a bundle holds is imported as a container imports it, without what forks share.
pytestmark = pytest.mark.usefixtures("new_steps")


class Watched:
    """Runs a build and keeps what its steps did."""

    def __init__(self, tmp_path: Path) -> None:
        self.url = f"sqlite:{tmp_path / 'store.db'}"
        self.ended: list[Ended] = []

    def __call__(
        self, build: Any, answers: dict[str, Any] | None = None, exec_id: str | None = None, /,
        **inputs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        self.ended = []
        found = dry_run.run(
            build, inputs=inputs, answers=answers or {}, store_url=self.url, exec_id=exec_id,
            report=self.ended.append,
        )  # fmt: skip
        return KitaruClient(self.url).executions.get(found).to_dict()

    @property
    def steps(self) -> list[tuple[str, str]]:
        return [(e.step, e.outputs.get("status", str(e.code))) for e in self.ended]


@pytest.fixture
def run(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_wait_ends_the_run_and_its_answer_goes_on(make: Make, run: Watched) -> None:
    build = make(REVIEW)
    waiting = run(build, topic="owls")
    assert waiting["status"] == "waiting"
    assert [wait["name"] for wait in waiting["waits"]] == ["approve"]
    assert run.steps == [("draft", "waiting")]
    done = run(build, {"approve": True}, waiting["exec_id"], topic="owls")
    assert done["result"] == "published: owls owls"
    assert run.steps == [("publish", "end")], "one container runs the remaining steps"
    records = KitaruClient(run.url).executions.get(done["exec_id"]).invocations
    assert [record.id for record in records if record.kind == "checkpoint"] == ["draft", "publish"]


def test_an_answer_given_at_once_needs_no_second_command(make: Make, run: Watched) -> None:
    done = run(make(REVIEW), {"approve": False}, topic="owls")
    assert (done["status"], done["result"]) == ("completed", "rejected")
    assert run.steps == [("draft", "waiting"), ("publish", "end")]


SEVERAL = """
    from typing import Annotated
    from pydantic import AfterValidator
    import kitaru
    from kitaru import checkpoint, flow

    def several(count: int) -> int:
        if count < 2:
            raise ValueError("too few")
        return count

    @checkpoint
    def double(count: int) -> int:
        return 2 * count

    @flow
    def asking() -> int:
        return double(kitaru.wait(name="count", schema=Annotated[int, AfterValidator(several)]))
"""


def test_an_answer_that_only_the_type_refuses_leaves_it_waiting(make: Make, run: Watched) -> None:
    build = make(SEVERAL)
    waiting = run(build, {"count": 1})
    assert waiting["status"] == "waiting"
    assert [wait["refused"].endswith("Value error, too few.") for wait in waiting["waits"]] == [
        True
    ]
    done = run(build, {"count": 2}, waiting["exec_id"])
    assert (done["status"], done["result"]) == ("completed", 4)


@pytest.mark.parametrize("way", ["store", "image", "inline"])
def test_every_delivery_runs(make: Make, run: Watched, way: str) -> None:
    image = {} if way == "store" else {"image": "registry/review:1"}
    done = run(make(REVIEW, delivery=way, **image), {"approve": True}, topic="owls", words=3)
    assert done["result"] == "published: owls owls owls"


def test_a_retry_is_the_documents(make: Make, run: Watched, tmp_path: Path) -> None:
    done = run(make(trying(tmp_path, "retries=2")))
    assert (done["status"], done["result"]) == ("completed", 3)
    assert [(e.attempt, e.code) for e in run.ended] == [(1, 1), (2, 1), (3, 0)]


@pytest.mark.parametrize("options", ["", "retries=None", "retry_on=RuntimeError"])
def test_retries_that_only_the_configuration_asks_for_are_the_builds(
    make: Make, run: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setenv("KITARU_RETRIES", "2")
    made = make(trying(tmp_path, options))
    # The number of retries comes from the document and the plan, not from the runner of a build.
    monkeypatch.delenv("KITARU_RETRIES")
    assert run(made)["result"] == 3
    attempts = [(1, 1), (2, 1), (3, 0)] if "retry_on" not in options else [(1, 0)]
    assert [(e.attempt, e.code) for e in run.ended] == attempts


def test_a_rehearsal_never_reads_the_cache(make: Make, run: Watched, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "tries").write_text("xx")
    results = []
    for said in ("false", "true"):
        settings = tmp_path / "project" / "pyproject.toml"
        settings.write_text(f"[tool.kitaru]\ncache = {said}\n")
        made = make(trying(tmp_path, ""))
        results += [run(made)["result"], run(made)["result"]]
    assert results == [3, 4, 5, 6]


def trying(tmp_path: Path, options: str) -> str:
    """Return a flow whose checkpoint raises RuntimeError twice."""
    return f"""
        from pathlib import Path
        from kitaru import checkpoint, flow

        @checkpoint({options})
        def flaky() -> int:
            with Path({str(tmp_path / "tries")!r}).open("a") as file:
                file.write("x")
            tries = len(Path({str(tmp_path / "tries")!r}).read_text())
            if tries < 3:
                raise RuntimeError(f"try {{tries}}")
            return tries

        @flow
        def trying() -> int:
            return flaky()
    """


def test_pauses_between_attempts_are_in_the_document(make: Make, tmp_path: Path) -> None:
    made = make(trying(tmp_path, "retries=2, retry_delay=1.5, backoff=3"))
    text = made.document.read_text()
    policy = re.findall(r"(maxRetryCount|backoff\w+): (.+)", text)
    assert sorted(policy) == [
        ("backoffDuration", '"2s"'),
        ("backoffFactor", "3.0"),
        ("backoffMaxDuration", '"3600s"'),
        ("maxRetryCount", "2"),
    ]


@pytest.mark.parametrize(("error", "result"), [("RuntimeError", 3), ("KeyError", None)])
def test_which_exceptions_count_is_decided_in_the_process(
    make: Make, run: Watched, tmp_path: Path, error: str, result: int | None
) -> None:
    made = make(trying(tmp_path, f"retries=2, retry_on={error}"))
    assert "retryPolicy" not in made.document.read_text()
    assert run(made)["result"] == result
    assert [(e.attempt, e.code) for e in run.ended] == [(1, 0 if result else 1)]
    assert len((tmp_path / "tries").read_text()) == (result or 1)


def test_a_failure_is_the_flows_and_nothing_later_starts(make: Make, run: Watched) -> None:
    source = """
        from kitaru import checkpoint, flow

        @checkpoint
        def broken() -> int:
            raise ValueError("no owls today")

        @checkpoint
        def after(n: int) -> int:
            return n

        @flow
        def failing() -> int:
            return after(broken())
    """
    done = run(make(source))
    assert done["status"] == "failed"
    assert (done["error"]["type"], done["error"]["message"]) == ("ValueError", "no owls today")
    assert run.steps == [("broken", "1")]
    assert "flow.py" in run.ended[0].log and "kitaru/runtime" not in run.ended[0].log


def test_a_cut_that_cannot_be_made_is_not_made(make: Make, run: Watched) -> None:
    source = """
        from kitaru import checkpoint, flow

        @checkpoint
        def one(n: int) -> int:
            return n + 1

        @checkpoint
        def two(n: int) -> int:
            return n * 10

        @flow
        def unbroken() -> int:
            numbers = iter([1, 2])
            a = one(next(numbers))
            b = two(next(numbers))
            return a + b
    """
    done = run(make(source))
    assert done["result"] == 22
    assert run.steps == [("one", "end"), ("two", "skip")]


def test_inputs_of_every_type_arrive(make: Make, run: Watched) -> None:
    source = """
        from kitaru import checkpoint, flow

        @checkpoint
        def show(*values: object) -> str:
            return repr(values)

        @flow
        def typed(
            s: str, n: int, x: float, b: bool, j: dict[str, list[int]], *, late: int = 2 + 3,
            text: str = "{{workflow.name}}", big: int = 2**60, opt: str | None = None,
        ) -> str:
            return show(s, n, x, b, j, late, text, big, opt)
    """
    values: dict[str, Any] = {"s": "1e3", "n": 7, "x": 2, "b": False, "j": {"a": [1, 2]}}
    done = run(make(source), **values)
    shown = ("1e3", 7, 2.0, False, {"a": [1, 2]}, 5, "{{workflow.name}}", 2**60, None)
    assert done["result"] in (repr(shown), repr(shown).replace("2.0", "2"))
    done = run(make(source), **{**values, "s": "a=b \n'\"; rm -rf $HOME", "late": 9})
    assert repr("a=b \n'\"; rm -rf $HOME") in done["result"] and ", 9, " in done["result"]


def test_inputs_may_be_called_like_what_steps_get(make: Make, run: Watched) -> None:
    source = """
        from kitaru import checkpoint, flow

        @checkpoint
        def add(a: int, b: int) -> int:
            return a + b

        @flow
        def named(step: int, run: int, execution: str = "e", store: str = "s") -> str:
            return f"{add(step, run)} {execution} {store}"
    """
    assert run(make(source), step=1, run=2, store="mine")["result"] == "3 e mine"


def test_what_is_wrong_with_inputs_and_answers_is_said(make: Make, run: Watched) -> None:
    build = make(REVIEW)
    with pytest.raises(InputError, match="missing input 'topic'"):
        run(build)
    with pytest.raises(InputError, match="unknown input 'colour'"):
        run(build, topic="owls", colour="red")
    with pytest.raises(InputError, match="'words'"):
        run(build, topic="owls", words="many")
    with pytest.raises(AnswerInvalid):
        run(build, {"approve": "perhaps"}, topic="owls")
    with pytest.raises(StateError, match="waits for approve, not for aprove"):
        run(build, {"aprove": True}, topic="owls")
    with pytest.raises(UsageError, match="steps are processes"):
        dry_run.run(build, inputs={"topic": "x"}, answers={}, store_url="memory:x")


def test_a_module_that_raises_is_the_flows_failure(make: Make, run: Watched) -> None:
    from kitaru.errors import FlowError

    with pytest.raises(FlowError, match="step draft ended with code 1") as caught:
        run(make(REVIEW + "\n    raise RuntimeError('at import')\n"), topic="owls")
    assert "at import" in str(caught.value)


def test_a_bundle_that_was_swapped_does_not_run(make: Make, run: Watched) -> None:
    build = make(REVIEW)
    (build.directory / "bundle.zip").write_bytes(b"PK")
    with pytest.raises(StateError, match="changed after it was compiled"):
        run(build, topic="owls")


def test_steps_do_not_see_this_machines_settings(
    make: Make, run: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_STORE", "sqlite:/nonexistent/x.db")
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    source = """
        import os
        from kitaru import checkpoint, flow

        @checkpoint
        def look() -> list[str | None]:
            return [os.environ.get(n) for n in ("KITARU_STORE", "PYTHONPATH", "PYTHONHASHSEED")]

        @flow
        def looking() -> list[str | None]:
            return look()
    """
    store, path, seed = run(make(source))["result"]
    # As in an image, the folder of the code is on the path; that of this machine is not.
    assert (store, Path(path).name, seed) == (None, "image", "0")


def test_state_of_another_project_module_is_not_lost(make: Make, run: Watched) -> None:
    source = """
        import shared
        from kitaru import checkpoint, flow

        @checkpoint
        def one(n: int) -> int:
            return n

        @flow
        def counting() -> list:
            shared.count()
            a = one(1)
            shared.count()
            b = one(2)
            return [a, b, shared.SEEN]
    """
    made = make("from kitaru import flow\n\n@flow\ndef nothing(): ...\n")
    (made.directory.parent / "project" / "shared.py").write_text(
        "SEEN = []\n\ndef count():\n    SEEN.append(len(SEEN))\n"
    )
    assert run(make(source))["result"] == [1, 2, [0, 1]]
