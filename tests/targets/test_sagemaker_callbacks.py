"""A run on SageMaker stays open at a pending wait, and nowhere else."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.sagemaker.dry_run import interpret

from kitaru.client import KitaruClient
from kitaru.errors import UsageError
from kitaru.wire.plan import Resources

from .conftest import REVIEW, Make
from .programs import Do, If, Path, Played, Program, paths, plan
from .test_dry_run import Watched
from .test_sagemaker import WIRING, producers, start
from .test_tree import NAMES, build, programs

TARGET = registry.get("sagemaker")
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/kitaru"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-0000-1111-2222-333344445555"
# What the platform team of an account asks of every job.
TEAM = {
    "instance_type": "ml.c5.xlarge",
    "subnets": "subnet-0a1b, subnet-2c3d",
    "security_groups": "sg-0a1b",
    "volume_kms_key": KEY,
    "output_kms_key": KEY,
    "tags": "team=ml, cost:center=42",
}
PROJECT = f'[tool.kitaru.sagemaker]\nqueue = "{QUEUE}"\n'


@cache
def document(program: Program) -> dict[str, Any]:
    text = TARGET.emit(plan(program, options={"queue": QUEUE}), WIRING).text
    assert TARGET.validate(text) == []
    found: dict[str, Any] = json.loads(text)
    return found


class Asked(Played):
    """A fake runtime that asks at the end of `asks`, and continues in a separate step."""

    def __init__(self, path: Path, program: Program, asks: str = "") -> None:
        lists = producers(program).items()
        super().__init__(path, producers={n: f"{p}_answer" if p == asks else p for n, p in lists})
        self.asking = {asks, *(name for name, how in path if how == "waiting")}
        if asks:
            self.own.insert(self.own.index(asks) + 1, f"{asks}_answer")
            self.path = [*self.own]

    def _outputs(self, name: str) -> Any:
        if name in self.asking:
            return {"next": f"{name}_answer", "status": "waiting"}
        return super()._outputs(name)


def play(program: Program, played: Asked, answer: str | None) -> list[str]:
    """Play a path; return the callbacks that were waited at."""
    waited: list[str] = []

    def wait(callback: str) -> str | None:
        assert played.ran[-1] in played.asking, "it waits where nothing was asked"
        waited.append(callback)
        return answer

    interpret(document(program), {}, "run", lambda call: start(played, call), wait)
    return waited


def callbacks(program: Program) -> list[str]:
    found = [s for c in document(program)["Steps"][1:] for s in _inside(c)]
    return [step["Name"] for step in found if step["Type"] == "Callback"]


def _inside(step: dict[str, Any]) -> list[dict[str, Any]]:
    return [*step["Arguments"].get("IfSteps", []), *step["Arguments"].get("ElseSteps", [])]


def check(program: Program) -> None:
    """Play every path, with no answer and, where the run stays open for one, with one."""
    known = callbacks(program)
    for path in list(paths(program))[:40]:
        played = Asked(path, program)
        waited = play(program, played, None)
        assert played.ran == played.own, path
        last, how = path[-1]
        assert waited == [key for key in known if (how, key) == ("waiting", f"wait-{last}")], path
        for name, status in path:
            if status == "go" and f"wait-{name}" in known:
                answered = Asked(path, program, asks=name)
                assert play(program, answered, "kitaru:default") == [f"wait-{name}"]
                assert answered.ran == answered.own, path


def test_a_wait_behind_a_step_that_always_runs_keeps_the_run_open() -> None:
    program = (Do("a"), Do("b", wait=True), Do("c"))
    assert callbacks(program) == ["wait-b"]
    check(program)


def test_a_wait_at_the_end_of_the_flow_needs_one_condition_alone() -> None:
    program = (Do("a", wait=True),)
    assert [step["Type"] for step in document(program)["Steps"]] == ["Processing", "Condition"]
    check(program)


def test_nothing_starts_behind_a_question_that_nobody_answers() -> None:
    program = (Do("a", "maybe", wait=True), Do("b"), Do("c"))
    played = Asked((("a", "waiting"),), program)
    assert play(program, played, None) == ["wait-a"]
    assert played.idle == []


def test_a_wait_in_an_arm_that_may_not_be_taken_ends_the_run() -> None:
    program = (Do("a"), If(((Do("b", wait=True),), (Do("c"),))), Do("d"))
    assert callbacks(program) == []
    check(program)


def test_a_later_wait_ends_the_run() -> None:
    program = (Do("a", wait=True), Do("b", wait=True), Do("c"))
    assert callbacks(program) == ["wait-a"]
    check(program)


@settings(max_examples=60, deadline=None)
@given(programs(2), st.booleans())
def test_every_path_of_a_random_program_runs(shape: list[object], wait: bool) -> None:
    check((Do("first", wait=wait), *build(shape, list(NAMES), last=False)))


def test_a_document_too_long_with_its_copies_has_none() -> None:
    long = tuple(Do(f"x{n}", wait=not n) for n in range(200))
    text = TARGET.emit(plan(long, options={"queue": QUEUE}), WIRING).text
    assert TARGET.validate(text) == [] and "Callback" not in text
    assert "Callback" in TARGET.emit(plan(long[:150], options={"queue": QUEUE}), WIRING).text


# Against what the service would do wrong


def asked(found: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = found["Steps"][2]["Arguments"]
    return arguments


CHANGES = {
    "no question": (lambda d: asked(d)["Conditions"].pop(0), "that has asked nothing"),
    "any question": (lambda d: asked(d)["Conditions"].pop(1), "that has asked nothing"),
    "later": (lambda d: asked(d)["IfSteps"].reverse(), "that has asked nothing"),
    "otherwise": (lambda d: asked(d)["ElseSteps"].append(asked(d)["IfSteps"][0]), "asked nothing"),
    "both": (
        lambda d: d["Steps"][1]["Arguments"]["Conditions"][0].update(RightValue="a_answer"),
        "may hold together",
    ),
    "queue": (lambda d: asked(d)["IfSteps"][0].update(SqsQueueUrl="http://x"), "is no queue"),
    "outputs": (lambda d: asked(d)["IfSteps"][0].update(OutputParameters=[]), "one answer"),
    "another answer": (
        lambda d: asked(d)["IfSteps"][1]["Arguments"].update(
            RoleArn={"Get": "Steps.zz.OutputParameters['answer']"}
        ),
        "which is not there",
    ),
    "question unknown": (
        lambda d: asked(d)["IfSteps"][0]["Arguments"].update(x={"Get": "Parameters.zz"}),
        "which is not there",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_callback_is_found(name: str) -> None:
    change, expected = CHANGES[name]
    spec = json.loads(json.dumps(document((Do("a", wait=True), Do("b")))))
    change(spec)
    problems = TARGET.validate(json.dumps(spec))
    assert any(expected in problem for problem in problems), problems


# As processes


@pytest.fixture
def run(tmp_path: Any) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def queued(make: Make, tmp_path: Any) -> Make:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text(PROJECT)
    return make


def test_a_run_that_is_answered_goes_on_in_the_same_document(queued: Make, run: Watched) -> None:
    built = queued(REVIEW, "sagemaker")
    done = run(built, {"approve": True}, topic="owls")
    assert done["result"] == "published: owls owls"
    assert run.steps == [("draft", "waiting"), ("approve_answer", "go"), ("publish", "end")]
    assert done["exec_id"] == KitaruClient(run.url).executions.list()[0]["exec_id"]


def test_a_run_that_nobody_answers_is_gone_on_with_later(queued: Make, run: Watched) -> None:
    built = queued(REVIEW, "sagemaker")
    waiting = run(built, topic="owls")
    assert (waiting["status"], run.steps) == ("waiting", [("draft", "waiting")])
    done = run(built, {"approve": False}, waiting["exec_id"], topic="owls")
    assert (done["result"], run.steps) == ("rejected", [("publish", "end")])


def test_without_a_queue_the_run_ends_at_a_wait(make: Make) -> None:
    built = make(REVIEW, "sagemaker")
    assert "Callback" not in built.document.read_text()
    page = (built.directory / "DEPLOY.md").read_text()
    assert "kitaru executions resume EXECUTION" in page


def test_the_deployment_page_says_how_to_answer_a_run_that_is_open(queued: Make) -> None:
    page = (queued(REVIEW, "sagemaker").directory / "DEPLOY.md").read_text()
    for words in ("send-pipeline-execution-step-success", "`approve`", "kitaru executions input"):
        assert words in page


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ('queue = "kitaru"', "queue cannot be 'kitaru'"),
        ('volume_gigabytes = "99999"', "volume_gigabytes cannot be '99999'"),
        ('colour = "red"', "no option 'colour'"),
        ('instance_type = "t3.medium"', "instance_type cannot be 't3.medium'"),
        ('tags = "aws:x=y"', "tags cannot be"),
        ('subnets = "subnet-0a"', "needs both subnets and security_groups"),
    ],
)
def test_an_option_that_cannot_be_meant_is_said(
    make: Make, tmp_path: Any, option: str, expected: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text(f"[tool.kitaru.sagemaker]\n{option}\n")
    with pytest.raises(UsageError, match=expected):
        make(REVIEW, "sagemaker")


def test_options_of_the_project_stand_in_the_document(make: Make, tmp_path: Any) -> None:
    role = "arn:aws:iam::123456789012:role/kitaru"
    options = f'role = "{role}"\nvolume_gigabytes = "80"\nmax_seconds = "3600"\n'
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text(f"[tool.kitaru.sagemaker]\n{options}")
    found = json.loads(make(REVIEW, "sagemaker").document.read_text())
    (given,) = (p for p in found["Parameters"] if p["Name"] == "kitaru_role")
    assert given["DefaultValue"] == role
    job = found["Steps"][0]["Arguments"]
    assert job["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"] == 80
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}


def test_network_keys_tags_and_machine_are_in_every_job() -> None:
    large, gpu = Do("b", resources=Resources(cpu="16")), Do("c", resources=Resources(gpu=1))
    text = TARGET.emit(plan((Do("a"), large, gpu), options=TEAM), WIRING).text
    assert TARGET.validate(text) == []
    jobs = [step["Arguments"] for step in json.loads(text)["Steps"]]
    clusters = [job["ProcessingResources"]["ClusterConfig"] for job in jobs]
    types = [one["InstanceType"] for one in clusters]
    assert types == ["ml.c5.xlarge", "ml.c5.4xlarge", "ml.g4dn.xlarge"]
    # The service refuses a key for the disk that a machine has of its own.
    assert [one.get("VolumeKmsKeyId") for one in clusters] == [KEY, KEY, None]
    for job in jobs:
        network = job["NetworkConfig"]["VpcConfig"]
        assert network == {
            "SecurityGroupIds": ["sg-0a1b"],
            "Subnets": ["subnet-0a1b", "subnet-2c3d"],
        }
        assert job["ProcessingOutputConfig"]["KmsKeyId"] == KEY
        tags = {tag["Key"]: tag["Value"] for tag in job["Tags"]}
        assert tags == {"kitaru:flow": "some_flow", "team": "ml", "cost:center": "42"}
