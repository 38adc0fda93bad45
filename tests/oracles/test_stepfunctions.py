"""moto's state machine engine executes our documents, and validators accept them.

Submission, answers and cancellation go through boto3. A worker takes the part of ECS: it runs the
command of each task as a process, with moto's S3 as the store.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.stepfunctions import emit
from kitaru_targets.stepfunctions.profile import TASK_DEFINITION
from kitaru_targets.upload import submit, upload

from kitaru.client import KitaruClient
from kitaru.ops.compile import compile, request
from kitaru.ops.dispatch import Dispatcher
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.view import ExecutionView
from tests import forks
from tests.oracles.ask import ROOT, python
from tests.oracles.test_flows import CASES, Case, kitaru, locally, meaning
from tests.oracles.test_sagemaker import answer
from tests.oracles.test_shapes import PARAMETERS, PROGRAMS
from tests.targets.programs import WIRING, plan
from tests.targets.test_native_schedules import PROJECT
from tests.targets.test_stepfunctions import OPTIONS
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

TARGET = registry.get("stepfunctions")
# Between two looks at the server, which shares the machine with the tasks.
POLL_SECONDS = 0.2
STATELINT = """
import json, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from kitaru_targets.stepfunctions.sdk import problems
print(json.dumps([one for path in sys.argv[2:] for one in problems(Path(path))]))
"""
NPM = "node_modules/.bin/asl-validator"
ROLE = "arn:aws:iam::123456789012:role/kitaru"
# One of each way through a document.
RUN = ("bug", "refused", "told", "torn")
SUBMIT = {
    "role": ROLE, "task_role": ROLE, "execution_role": ROLE, "cluster": "agents",
    "region": "us-east-1",
}  # fmt: skip
LOOP = """
import os
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def draft(text: str) -> str:
    return text + "."


@checkpoint(retries=2)
def publish(text: str) -> str:
    mark = os.environ["MARKS_OF_FLOW"]
    with open(mark, "a") as file:
        file.write("publish\\n")
    if os.path.getsize(mark) < 10:
        os._exit(137)
    return text


@flow
def polish(text: str) -> str:
    text = draft(text)
    while True:
        note = kitaru.wait(name="note", schema=str)
        if not note:
            break
        text = draft(text + note)
    return publish(text)
"""


NAP = """
import os
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def note(word: str) -> str:
    with open(os.environ["MARKS_OF_FLOW"], "a") as file:
        file.write(word + "\\n")
    return word


@flow
def nap() -> str:
    first = note("before")
    kitaru.sleep(2)
    second = note("after")
    late = kitaru.wait(name="late", schema=str, deadline=2, default="nobody")
    return f"{first} {second} {late}"
"""


class Tasks(threading.Thread):
    """Runs the tasks of ECS as processes; `started` counts them by step."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        import boto3

        self.ecs = boto3.client("ecs", endpoint_url=address, region_name="us-east-1")
        ec2 = boto3.client("ec2", endpoint_url=address, region_name="us-east-1")
        # The network that every account has.
        self.network = {
            "subnets": ec2.describe_subnets()["Subnets"][0]["SubnetId"],
            "security_groups": ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],
        }
        self.started: Counter[str] = Counter()
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        taken: set[str] = set()
        while not self.over.is_set():
            for arn in self.ecs.list_tasks(cluster="agents")["taskArns"]:
                if arn not in taken:
                    taken.add(arn)
                    self.start_task(arn)
            time.sleep(POLL_SECONDS)

    def start_task(self, arn: str) -> None:
        (task,) = self.ecs.describe_tasks(cluster="agents", tasks=[arn])["tasks"]
        found = self.ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
        (container,) = found["taskDefinition"]["containerDefinitions"]
        (override,) = task["overrides"]["containerOverrides"]
        assert override["name"] == container["name"]
        variables = [*container["environment"], *override.get("environment", [])]
        given = {one["name"]: one["value"] for one in variables}
        keep = {
            k: v
            for k, v in os.environ.items()
            if k.startswith(("AWS_", "MARKS_", "LANG", "KITARU_SLEEP"))
        }
        path = forks.with_forks(os.environ["PATH"])
        command = [*container["entryPoint"], *override["command"]]
        self.started[command[command.index("--step") + 1]] += 1
        done = subprocess.run(
            command, env={**keep, "PATH": path, "PIP_NO_INDEX": "1", "KITARU_MODE": "deployed",
                          **given},
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        if done.returncode:
            self.failures.append(done.stderr[-2000:])
        self.ecs.stop_task(cluster="agents", task=arn, reason=f"exit {done.returncode}")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    """Serve Step Functions, ECS and S3 on a free port."""
    pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    file = tmp_path_factory.mktemp("moto") / "moto.log"
    program = ROOT / "tests" / "oracles" / "stepfunctions_server.py"
    fakes = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    set_ = {
        **fakes, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, file.open("w") as log, subprocess.Popen(
        [python("stepfunctions"), program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=log, stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | fakes,
    ) as server:  # fmt: skip
        for name, value in set_.items():
            patch.setenv(name, value)
        try:
            answer(server, urllib.request.Request(f"{address}/bucket", method="PUT"))
            post(f"{address}/moto-api/config", {"stepfunctions": {"execute_state_machine": True}})
            # Tasks stay as they are until the worker ends them.
            model = {"model_name": "ecs::task", "transition": {"progression": "manual",
                                                               "times": 1_000_000}}  # fmt: skip
            post(f"{address}/moto-api/state-manager/set-transition", model)
            tasks = Tasks(address)
            tasks.ecs.create_cluster(clusterName="agents")
            tasks.start()
            yield tasks
            tasks.over.set()
            tasks.join()
        finally:
            server.kill()


def post(url: str, document: Any) -> None:
    data = json.dumps(document).encode()
    head = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, data, head), timeout=60).close()


def seldom(look: Callable[[], Any]) -> Any:
    """Look after a pause: each look costs the machine on which the tasks run."""
    time.sleep(POLL_SECONDS)
    return look()


class Run:
    """A flow that runs in the engine."""

    def __init__(
        self, tasks: Tasks, file: Path, inputs: dict[str, Any], folder: Path, name: str
    ) -> None:
        import boto3

        self.tasks = tasks
        self.url = f"s3://bucket/{name}"
        compilation = compile_flow(file, profile=TARGET.profile)
        self.built = build.write(compilation, TARGET, folder / "out")
        self.exec_id = f"run-{name}"
        self.service = boto3.client("stepfunctions", region_name="us-east-1")
        self.arn = self.submitted(inputs)

    def submitted(self, inputs: dict[str, Any]) -> str:
        options = {
            **SUBMIT,
            **self.tasks.network,
            "state_machine": self.exec_id,
            "once": f"kitaru-{self.exec_id}",
        }
        found = submit(
            self.built, inputs=inputs, store_url=self.url, exec_id=self.exec_id, options=options
        )
        return found.run_id

    @property
    def status(self) -> str:
        found = seldom(lambda: self.service.describe_execution(executionArn=self.arn))
        return str(found["status"])

    def states(self) -> list[str]:
        pages = self.service.get_paginator("get_execution_history")
        events = [e for page in pages.paginate(executionArn=self.arn) for e in page["events"]]
        return [e["stateEnteredEventDetails"]["name"] for e in events
                if "stateEnteredEventDetails" in e]  # fmt: skip

    def view(self) -> ExecutionView:
        return KitaruClient(self.url).executions.get(self.exec_id)

    def has_asked(self) -> bool:
        ended = self.status != "RUNNING"
        entered = self.states() or [""]
        return ended or entered[-1].endswith("-wait")

    def answer(self, value: Any) -> None:
        wait_until(self.has_asked)
        assert self.status == "RUNNING", self.states()
        KitaruClient(self.url).executions.input(self.exec_id, value)

    def ended(self) -> str:
        """Return how the run ended, and why if it failed."""
        wait_until(lambda: self.status != "RUNNING")
        found = self.service.describe_execution(executionArn=self.arn)
        return " ".join(str(found[key]) for key in ("status", "error", "cause") if key in found)


def written(folder: Path) -> list[Path]:
    """Write the documents of all cases, and of every shape."""
    paths = {}
    for file in dict.fromkeys(case.file for case in CASES.values()):
        compilation = compile_flow(file, profile=TARGET.profile)
        document = build.write(compilation, TARGET, folder / file.stem).document
        paths[document.read_text()] = document
    for name, program in PROGRAMS.items():
        for kind, options in (("ends", {}), ("waits", OPTIONS)):
            made = plan(program, parameters=PARAMETERS, options=options)
            # Fargate has no GPUs.
            steps = (replace(s, resources=replace(s.resources, gpu=0)) for s in made.steps)
            text = TARGET.emit(made.replace(steps=tuple(steps)), WIRING).text
            assert TARGET.validate(text) == []
            path = paths[text] = folder / f"{name}-{kind}.json"
            path.write_text(text)
    return [*paths.values()]


SCHEDULED = """
import os
from kitaru import checkpoint, flow


@checkpoint
def count(days: int) -> int:
    with open(os.environ["MARKS_OF_FLOW"], "a") as file:
        file.write("count\\n")
    return days


@flow(schedule="0 2 * * *", timezone="Europe/Berlin", overlap="allow", catchup="all",
      schedule_by="target")
def nightly(days: int = 7) -> int:
    return count(days)
"""


def test_a_tick_that_starts_twice_has_one_effect(
    tmp_path: Path, aws: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EventBridge Scheduler may call its target twice: moto stores it, and this test calls."""
    import boto3

    marks = tmp_path / "marks"
    monkeypatch.setenv("MARKS_OF_FLOW", str(marks))
    (tmp_path / "pyproject.toml").write_text(
        PROJECT.replace("subnet-0a", aws.network["subnets"]).replace(
            "sg-0a", aws.network["security_groups"]
        )
    )
    (tmp_path / "nightly.py").write_text(SCHEDULED)
    url = "s3://bucket/nightly"
    asked = request(
        str(tmp_path / "nightly.py"), target="stepfunctions", directory=tmp_path / "out", store=url
    )
    built = compile(asked).build
    upload(built, open_store(url))
    machines = boto3.client("stepfunctions", region_name="us-east-1")
    scheduler = boto3.client("scheduler", region_name="us-east-1")
    aws.ecs.register_task_definition(**json.loads(built.read(TASK_DEFINITION)))
    definition = built.document.read_text()
    machines.create_state_machine(name="nightly", definition=definition, roleArn=ROLE)
    scheduler.create_schedule(**json.loads(built.read("schedule.json")))
    target = scheduler.get_schedule(Name="nightly")["Target"]
    given = target["Input"].replace("<aws.scheduler.scheduled-time>", "2026-12-01T01:00:00Z")
    runs = [
        machines.start_execution(stateMachineArn=target["Arn"], input=given)["executionArn"]
        for _ in range(2)
    ]

    def ended() -> bool:
        found = [machines.describe_execution(executionArn=run)["status"] for run in runs]
        return "RUNNING" not in found

    wait_until(lambda: seldom(ended), seconds=240)
    view = KitaruClient(url).executions.get("nightly-20261201t0100z")
    assert view.status == "completed" and view.result == 7
    assert marks.read_text() == "count\n", "its code ran once"
    assert [one.exec_id for one in KitaruClient(url).executions.list()] == [view.exec_id]


def test_validators_accept_every_shape(tmp_path: Path) -> None:
    paths = written(tmp_path)
    faulty = tmp_path / "faulty.json"
    faulty.write_text(paths[0].read_text().replace('"Next": "read-inputs"', '"Next": "x"'))
    interpreter = python("stepfunctions")
    # As `kitaru verify --with-sdk` asks it.
    linted = [interpreter, "-c", STATELINT, ROOT / "targets"]
    assert json.loads(output([*linted, *paths])) == []
    assert json.loads(output([*linted, faulty]))
    validator = interpreter.parents[1] / NPM
    if validator.exists():  # without npm
        words = [word for path in paths for word in ("--json-path", path)]
        assert subprocess.run([validator, *words], check=False).returncode == 0
        assert subprocess.run([validator, "--json-path", faulty], check=False).returncode


def output(command: list[Any]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", RUN)
def test_the_engine_gives_what_a_local_run_gives(name: str, aws: Tasks, tmp_path: Path) -> None:
    case: Case = CASES[name]
    run = Run(aws, case.file, case.inputs, tmp_path, name.replace(" ", "-"))
    for value in case.answers:
        run.answer(value)
    assert run.ended() == "SUCCEEDED", (run.states(), aws.failures)
    assert meaning(run.view()) == meaning(locally(case, tmp_path))
    assert emit.ROUTE not in run.states()
    assert run.submitted(case.inputs) == run.arn, "the same name is the same run"


def test_a_wait_in_a_loop_is_native_and_a_killed_task_starts_again(
    aws: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKS_OF_FLOW", str(tmp_path / "marks"))
    (tmp_path / "polish.py").write_text(LOOP)
    run = Run(aws, tmp_path / "polish.py", {"text": "a"}, tmp_path, "polish")
    for value in ("b", "c", ""):
        run.answer(value)
    assert run.ended() == "SUCCEEDED", (run.states(), aws.failures)
    assert run.view().to_dict()["result"] == "a.b.c."
    waits = [state for state in run.states() if state.endswith("-wait")]
    assert len(waits) == 3, "one run, with a state that waits for each round"
    assert (tmp_path / "marks").read_text().count("publish") == 2
    assert aws.started["publish"] == 2


@pytest.mark.parametrize("dispatched", [False, True])
def test_a_sleep_and_a_deadline_end_by_themselves_and_with_a_dispatcher(
    dispatched: bool, aws: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    monkeypatch.setenv("MARKS_OF_FLOW", str(marks))
    monkeypatch.setenv("KITARU_SLEEP_IN_PROCESS", "0")
    (tmp_path / "nap.py").write_text(NAP)
    run = Run(aws, tmp_path / "nap.py", {}, tmp_path, f"nap-{dispatched}".lower())
    errors = list[Any]()
    dispatcher = Dispatcher(open_store(run.url), report=lambda one: errors.append(one.error))
    helping = threading.Thread(target=dispatcher.run)
    if dispatched:
        helping.start()
    try:
        assert run.ended() == "SUCCEEDED", (run.states(), aws.failures)
    finally:
        dispatcher.stop()
        if dispatched:
            helping.join()
    assert run.view().result == "before after nobody"
    assert marks.read_text() == "before\nafter\n", "two owners of a timer have one effect"
    states = run.states()
    assert "note-sleep" in states and "late-wait" in states
    assert [one for one in errors if one is not None] == []
    assert Journal.open(dispatcher.store, run.exec_id).wait_answer("late").kind == "expired"


def test_a_cancelled_execution_ends_its_run(aws: Tasks, tmp_path: Path) -> None:
    case = CASES["review"]
    run = Run(aws, case.file, case.inputs, tmp_path, "cancelled")
    wait_until(run.has_asked)
    KitaruClient(run.url).executions.cancel(run.exec_id)
    # moto notices that only when the state ends.
    store = open_store(run.url)
    (key,) = store.list(f"native/tokens/{run.exec_id}/")
    token = json.loads(store.get(key) or b"")["token"]
    store.close()
    run.service.send_task_success(taskToken=token, output="{}")
    assert run.ended().startswith("ABORTED")


def test_a_failure_fails_the_run_and_the_rest_runs_as_another_one(
    aws: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKS_OF_FLOW", str(tmp_path / "marks"))
    (tmp_path / "polish.py").write_text(LOOP.replace("@checkpoint(retries=2)", "@checkpoint"))
    run = Run(aws, tmp_path / "polish.py", {"text": "a"}, tmp_path, "fails")
    run.answer("")
    assert run.ended().startswith("FAILED States.TaskFailed")
    before = aws.started.copy()
    found = KitaruClient(run.url).executions.resume(run.exec_id, options=SUBMIT | aws.network)
    wait_until(lambda: seldom(lambda: run.view().status) == "completed")
    assert found is not None
    assert aws.started["draft"] == before["draft"], "nothing recorded starts again"
    assert run.view().to_dict()["result"] == "a."


def test_more_calls_at_a_time_than_a_map_has_are_distributed(
    aws: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_MAX_PARALLEL", "41")
    case = CASES["fan out"]
    run = Run(aws, case.file, case.inputs, tmp_path, "distributed")
    assert '"Mode": "DISTRIBUTED"' in run.built.document.read_text()
    assert run.ended() == "SUCCEEDED", (run.states(), aws.failures)
    assert meaning(run.view()) == meaning(locally(case, tmp_path))
    assert aws.started["count_words_summarise"] == 4


def test_a_deployed_version_is_invoked_and_answered_by_commands(
    aws: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITARU_STORE", "s3://bucket/deployed")
    kitaru("deploy", str(CASES["review"].file), "--target", "stepfunctions")
    options = [f"{name}={text}" for name, text in (SUBMIT | aws.network).items()]
    sets = [word for option in options for word in ("--set", option)]
    words = ["invoke", "review_flow", "--input", "topic=owls", *sets]
    found = kitaru(*words)
    exec_id = found["exec_id"]

    def status() -> str:
        return str(kitaru("executions", "get", exec_id)["status"])

    assert kitaru(*words, "--id", exec_id)["exec_id"] == exec_id
    service = boto3.client("stepfunctions", region_name="us-east-1")
    machines = service.list_state_machines()["stateMachines"]
    (machine,) = [m["stateMachineArn"] for m in machines if m["name"] == "review-flow-v1"]
    wait_until(lambda: seldom(status) == "waiting")
    done = kitaru("executions", "input", exec_id, "--value", "true")
    assert done["submission"] is None, "the run that waits continues"
    wait_until(lambda: seldom(status) == "completed")
    assert "draft" in json.dumps(kitaru("executions", "logs", exec_id))
    (run,) = service.list_executions(stateMachineArn=machine)["executions"]
    assert run["status"] in ("RUNNING", "SUCCEEDED"), "one run, from start to end"


def test_a_task_definition_is_what_the_sdk_takes(aws: Tasks, tmp_path: Path) -> None:
    compilation = compile_flow(CASES["review"].file, profile=TARGET.profile)
    built = build.write(compilation, TARGET, tmp_path / "out")
    definition = json.loads((built.directory / TASK_DEFINITION).read_text())
    made = aws.ecs.register_task_definition(**definition)["taskDefinition"]
    assert made["family"] == definition["family"]
