"""With `schedule_by="target"`, a build contains the schedule of its service."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry
from kitaru_targets.airflow import dag_file
from kitaru_targets.build import Build
from kitaru_targets.common import read, schedules
from kitaru_targets.kubernetes.profile import SETUP

from kitaru.client import KitaruClient
from kitaru.errors import UsageError
from kitaru.ops.compile import compile, request
from kitaru.ops.deploy import deploy
from kitaru.ops.schedules import list_schedules
from kitaru.stores import open_store
from kitaru.wire.ids import named_execution_id
from kitaru.wire.plan import PlannedSchedule

from .programs import WIRING, Do, plan

ROLE = "arn:aws:iam::123456789012:role/kitaru"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:nightly"
PROJECT = f"""
[project]
name = "nightly"
version = "0"
[tool.kitaru.stepfunctions]
scheduler_role = "{ROLE}"
state_machine = "{MACHINE}"
cluster = "agents"
subnets = "subnet-0a"
security_groups = "sg-0a"
[tool.kitaru.sagemaker]
scheduler_role = "{ROLE}"
role = "{ROLE}"
"""
FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def count(days: int) -> int:
    return days

@flow(schedule="{cron}", timezone="{zone}", overlap="{overlap}", catchup="{catchup}",
      schedule_by="target")
def nightly(days: int{default}) -> int:
    {wait}
    return count(days)
"""


def compiled(
    folder: Path,
    target: str,
    *,
    overlap: str = "allow",
    catchup: str = "none",
    cron: str = "0 2 * * MON-FRI",
    zone: str = "Europe/Berlin",
    default: str = " = 7",
    wait: str = "",
) -> Build:
    folder.joinpath("pyproject.toml").write_text(PROJECT)
    file = folder / "nightly.py"
    given = {"cron": cron, "zone": zone, "overlap": overlap, "catchup": catchup}
    file.write_text(FLOW.format(**given, default=default, wait=wait))
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/nightly:1"
    asked = request(
        str(file), target=target, directory=folder / target, image=image, store="s3://bucket/x"
    )
    return compile(asked).build


def beside(made: Build, name: str) -> Any:
    return read.parse(made.read(name).decode())


def test_argo_has_a_cron_workflow(tmp_path: Path) -> None:
    made = beside(compiled(tmp_path, "argo", overlap="skip"), "schedule.yaml")
    assert made["spec"] == {
        "schedules": ["0 2 * * MON-FRI"],
        "timezone": "Europe/Berlin",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 300,
        "workflowSpec": {"workflowTemplateRef": {"name": "nightly"}},
    }
    made = beside(compiled(tmp_path, "argo", catchup="last"), "schedule.yaml")
    assert made["spec"]["concurrencyPolicy"] == "Allow"
    assert made["spec"]["startingDeadlineSeconds"] == 31_536_000


def test_kubernetes_has_a_cron_job(tmp_path: Path) -> None:
    made = compiled(tmp_path, "kubernetes", overlap="skip", catchup="last")
    *_, cron_job = read.parse_all(made.read(SETUP).decode())
    spec = {name: value for name, value in cron_job["spec"].items() if name != "jobTemplate"}
    assert spec == {
        "schedule": "0 2 * * MON-FRI", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid",
    }  # fmt: skip
    assert cron_job["spec"]["jobTemplate"]["spec"] == read.parse(made.document.read_text())["spec"]
    *_, cron_job = read.parse_all(compiled(tmp_path, "kubernetes").read(SETUP).decode())
    assert cron_job["spec"]["startingDeadlineSeconds"] == 300


def test_airflow_has_a_timetable(tmp_path: Path) -> None:
    made = compiled(tmp_path, "airflow", overlap="queue", catchup="last")
    document = dag_file.read(made.document.read_text())
    assert document.dag["schedule"] == {
        "cron": "0 2 * * MON-FRI", "timezone": "Europe/Berlin", "one_at_a_time": True,
    }  # fmt: skip


def test_vertex_has_the_options_of_a_schedule(tmp_path: Path) -> None:
    assert beside(compiled(tmp_path, "vertex", overlap="queue"), "schedule.json") == {
        "display_name": "nightly",
        "cron": "TZ=Europe/Berlin 0 2 * * MON-FRI",
        "max_concurrent_run_count": 1,
        "allow_queueing": True,
    }


def test_azure_ml_has_a_schedule_in_utc(tmp_path: Path) -> None:
    made = beside(compiled(tmp_path, "azureml", zone="UTC"), "schedule.yaml")
    assert made["trigger"] == {
        "type": "cron", "expression": "0 2 * * MON-FRI", "time_zone": "UTC",
    }  # fmt: skip
    assert made["create_job"] == "./pipeline.yaml"
    with pytest.raises(UsageError, match="zones of Windows"):
        compiled(tmp_path, "azureml")


def call_of(made: Build, instant: str) -> dict[str, Any]:
    """Return what EventBridge Scheduler calls its target with at an instant."""
    schedule = json.loads(made.read("schedule.json"))
    valid("scheduler", "CreateSchedule", schedule)
    text = schedule["Target"]["Input"].replace("<aws.scheduler.scheduled-time>", instant)
    found: dict[str, Any] = json.loads(text)
    return found


def valid(service: str, operation: str, given: dict[str, Any]) -> None:
    """Check the input of an action against the model of the service."""
    session = pytest.importorskip("botocore.session").get_session()
    shape = session.get_service_model(service).operation_model(operation).input_shape
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(given, shape)
    assert not report.has_errors(), report.generate_report()


def test_aws_starts_one_execution_for_each_instant(tmp_path: Path) -> None:
    instant = "2026-12-01T01:00:00Z"
    made = compiled(tmp_path, "stepfunctions")
    assert json.loads(made.read("schedule.json"))["Target"]["Arn"] == MACHINE
    given = call_of(made, instant)
    assert named_execution_id(given["kitaru_execution"]) == "nightly-20261201t0100z"
    call = call_of(compiled(tmp_path, "sagemaker", catchup="all"), instant)
    valid("sagemaker", "StartPipelineExecution", call)
    (given,) = call["PipelineParameters"]
    assert given["Name"] == "kitaru_execution"
    assert named_execution_id(given["Value"]) == "nightly-20261201t0100z"
    assert call["ClientRequestToken"] == f"kitaru-{given['Value']}"


@pytest.mark.parametrize(
    ("target", "changes", "why"),
    [
        ("kubeflow", {}, "the target kubeflow starts no runs by schedule"),
        ("local", {}, "the target local starts no runs by schedule"),
        ("airflow", {"catchup": "all", "overlap": "queue"}, 'catchup="all", which the DAG cannot'),
        ("airflow", {"catchup": "last", "overlap": "skip"}, 'overlap="skip", which the DAG'),
        ("argo", {"overlap": "cancel"}, 'overlap="cancel", which a CronWorkflow cannot do'),
        ("stepfunctions", {"overlap": "skip"}, "EventBridge Scheduler cannot"),
        ("vertex", {"overlap": "skip", "wait": "kitaru.wait(name='a')"}, "a schedule of Vertex"),
        ("kubernetes", {"overlap": "skip", "wait": "kitaru.wait(name='a')"}, "a CronJob cannot"),
        ("argo", {"cron": "0 2 L * *"}, "do not read the cron expression"),
        ("argo", {"cron": "0 2 1 * MON"}, "means other days to each service"),
        ("argo", {"cron": "0 2 * * 7"}, "do not read the cron expression"),
        ("argo", {"default": ""}, "its input days has no default"),
    ],
)
def test_what_a_service_cannot_do_is_refused(
    tmp_path: Path, target: str, changes: dict[str, str], why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        compiled(tmp_path, target, **changes)
    assert why in caught.value.message and caught.value.help


def test_a_flow_that_waits_may_overlap_where_a_run_ends_at_a_wait(tmp_path: Path) -> None:
    made = compiled(tmp_path, "kubernetes", wait="kitaru.wait(name='a')")
    assert 'concurrencyPolicy: "Allow"' in made.read(SETUP).decode()


def test_a_run_by_schedule_needs_a_store_and_the_options_of_its_service() -> None:
    planned = PlannedSchedule("0 2 * * *", "UTC", "allow", "none", "target")
    made = plan((Do("a"),)).replace(schedule=planned)
    argo = registry.get("argo")
    with pytest.raises(UsageError, match="by schedule is given no kitaru_store"):
        schedules.check(made, argo, replace(WIRING, store=""))
    residual = argo.emit(made, replace(WIRING, execution="e-1"))
    assert residual.files == {}, "the remaining steps of an execution start by no schedule"
    with pytest.raises(UsageError, match=r"no scheduler_role, .* in \[tool.kitaru.stepfunctions\]"):
        registry.get("stepfunctions").emit(made, WIRING)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/15 9-17 * * 1-5", "cron(*/15 9-17 ? * MON,TUE,WED,THU,FRI *)"),
        ("0 7 1,15 * *", "cron(0 7 1,15 * ? *)"),
        ("5 0 * JAN SUN", "cron(5 0 ? JAN SUN *)"),
        ("0 0 * * 1/2", "cron(0 0 ? * MON,WED,FRI *)"),
        ("0 0 * * */2", "cron(0 0 ? * SUN,TUE,THU,SAT *)"),
    ],
)
def test_amazon_counts_days_of_the_week_from_one(cron: str, expected: str) -> None:
    assert schedules.aws_cron(cron) == expected


def test_no_dispatcher_starts_what_the_target_starts(tmp_path: Path) -> None:
    made = compiled(tmp_path, "argo")
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    client = KitaruClient(store)
    file = tmp_path / "nightly.py"
    text = file.read_text()
    file.write_text(text.replace('schedule_by="target"', 'schedule_by="dispatcher"'))
    asked = request(str(file), target="argo", directory=tmp_path, image="i:1", store="s3://b/x")
    deploy(asked, store)
    assert [one.id for one in list_schedules(store)] == ["nightly"]
    file.write_text(text)
    deploy(asked, store, ["default"])
    assert list_schedules(store) == []
    assert client.deployments.get("nightly").version == "v2"
    assert made.plan.schedule and made.plan.schedule.by == "target"


def test_a_dry_run_needs_no_options_of_a_schedule(tmp_path: Path) -> None:
    file = tmp_path / "nightly.py"
    named = {"cron": "0 2 * * *", "zone": "UTC", "overlap": "allow", "catchup": "all"}
    file.write_text(FLOW.format(**named, default=" = 7", wait=""))
    with pytest.raises(UsageError, match="pyproject"):
        compile(request(str(file), "stepfunctions", tmp_path / "build", store="s3://b/p"))
    client = KitaruClient(f"sqlite:{tmp_path / 'store.db'}")
    ended = client.dry_run(str(file), target="stepfunctions", directory=tmp_path / "dry")
    assert ended.result == 7
