"""A flow is a Job: its document, the rules by which Kubernetes reads it, and faulty documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import build, dry_run, registry
from kitaru_targets.common import read, yaml
from kitaru_targets.dry_run import Ended
from kitaru_targets.dry_run.process import Machine
from kitaru_targets.kubernetes import dry_run as jobs_dry_run
from kitaru_targets.kubernetes import job as jobs
from kitaru_targets.kubernetes.profile import SETUP
from kitaru_targets.kubernetes.validate import validate_setup
from kitaru_targets.upload import upload

from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure, InputError, UsageError
from kitaru.ops.compile import compile, request
from kitaru.stores import open_store
from kitaru.wire.plan import Parameter, PlannedSchedule, Resources

from .conftest import REVIEW, Make
from .programs import WIRING, Do, plan
from .test_kubernetes import FLOW, KEY, POD, compiled, settings

TARGET = registry.get("kubernetes")


def job_of(made: build.Build) -> dict[str, Any]:
    return read.parse(made.document.read_text())


def pod_of(made: build.Build) -> dict[str, Any]:
    found: dict[str, Any] = job_of(made)["spec"]["template"]["spec"]
    return found


def variables(job: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in jobs.container(job)["env"]}


def test_a_flow_is_one_step_at_any_granularity_even_if_a_checkpoint_is_isolated(
    tmp_path: Path,
) -> None:
    path = tmp_path / "flow.py"
    isolated = '@checkpoint(runtime="isolated", cpu=2, memory="3Gi")'
    path.write_text(FLOW.replace("@checkpoint", isolated) + "    return ask(question)\n")
    for target in ("kubernetes", "local"):
        for granularity in ("checkpoint", "fused", "single"):
            asked = request(str(path), target, tmp_path / "out", granularity=granularity)
            made = compile(asked).build
            assert [step.name for step in made.plan.steps] == ["start"]
    made = compile(request(str(path), "kubernetes", tmp_path / "out")).build
    resources = jobs.container(job_of(made))["resources"]
    assert resources["requests"] == {"cpu": "2", "memory": "3Gi"}
    assert resources["limits"] == {"memory": "3Gi"}


def test_the_source_is_an_annotation(make: Make) -> None:
    source = job_of(make(REVIEW, "kubernetes"))["metadata"]["annotations"]["kitaru.dev/source"]
    assert source.splitlines() == [
        "flow.py:15 - text = draft(topic, words)",
        'flow.py:16 - if not kitaru.wait(name="approve", question="Good?", schema=bool):',
        "flow.py:18 - return publish(text)",
    ]


def test_the_program_that_starts_the_flow_is_written_once_and_readable(make: Make) -> None:
    made = make(REVIEW, "kubernetes")
    account, config_map = read.parse_all((made.directory / SETUP).read_text())
    assert account["metadata"]["name"] == pod_of(made)["serviceAccountName"] == "kitaru"
    assert config_map["data"]["start.py"].startswith('"""Starts a step: fetches')
    assert '\n  "start.py": |-\n' in (made.directory / SETUP).read_text()
    (program,) = [v["configMap"] for v in pod_of(made)["volumes"] if "configMap" in v]
    assert program["name"] == config_map["metadata"]["name"]
    assert "import" not in made.document.read_text()
    again = make(REVIEW.replace("published", "printed"), "kubernetes")
    assert read.parse_all((again.directory / SETUP).read_text())[1] == config_map


def test_an_image_with_the_flow_needs_no_program_and_installs_nothing(make: Make) -> None:
    made = make(REVIEW, "kubernetes", delivery="image", image="registry/review:1")
    assert len(read.parse_all((made.directory / SETUP).read_text())) == 1
    assert [one["name"] for one in pod_of(made)["volumes"]] == ["tmp"]
    assert jobs.container(job_of(made))["command"] == ["python3", "-P", "-m", "kitaru.runtime"]
    assert "PIP_TARGET" not in variables(job_of(made))


def test_the_code_can_be_in_the_config_map(make: Make) -> None:
    made = make(REVIEW, "kubernetes", delivery="inline", image="registry/runtime:1")
    _, config_map = read.parse_all((made.directory / SETUP).read_text())
    assert config_map["data"]["code"].startswith("inline:")
    assert "inline:" not in made.document.read_text()
    assert jobs.container(job_of(made))["args"][0] == "$(KITARU_CODE)"


def test_pods_have_what_the_project_sets(tmp_path: Path) -> None:
    own = 'namespace = "agents"\nservice_account = "agent"\nuser = "2000"\nmax_seconds = "60"\n'
    made = compiled(tmp_path, "kubernetes", settings("kubernetes", POD + own))
    job, pod = job_of(made), pod_of(made)
    assert {"name": "OPENAI_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}} in (
        jobs.container(job)["env"]
    )  # fmt: skip
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "other"}]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-nodepool": "gpu"}
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule", "operator": "Equal"},
        {"key": "spot", "effect": "NoExecute", "operator": "Exists"},
    ]
    assert {"name": "secret-1", "secret": {"secretName": "tls"}} in pod["volumes"]
    mount = {"name": "secret-1", "mountPath": "/etc/tls", "readOnly": True}
    assert mount in jobs.container(job)["volumeMounts"]
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert metadata["labels"]["team"] == "ml"
        assert metadata["annotations"]["example.org/note"] == "https://example.org/?a=1"
    assert job["metadata"]["namespace"] == "agents"
    assert (pod["serviceAccountName"], pod["securityContext"]["runAsUser"]) == ("agent", 2000)
    assert job["spec"]["activeDeadlineSeconds"] == 60


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("namespace", "Agents"), ("namespace", "a" * 64), ("service_account", "a_b"), ("user", "0"),
        ("user", "9999999999"), ("max_seconds", "0"), ("kept_seconds", "1d"), ("labels", "a=b c"),
        ("backoff_limit", "-1"), ("tolerations", "gpu=present:Never"), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_value_that_kubernetes_refuses_is_refused(
    tmp_path: Path, option: str, value: str
) -> None:
    with pytest.raises(UsageError, match=option):
        compiled(tmp_path, "kubernetes", settings("kubernetes", f'{option} = "{value}"\n'))


def test_a_variable_with_another_meaning_is_refused() -> None:
    wiring = replace(WIRING, environment={"HOME": "/data"})
    with pytest.raises(UsageError, match="'HOME' cannot be set for a Job"):
        TARGET.emit(plan((Do("a"),)), wiring)


DAILY = PlannedSchedule("0 7 * * MON-FRI", "Europe/Berlin", "skip", "last", "target")


def test_a_schedule_is_a_cron_job_that_the_check_knows() -> None:
    made = plan((Do("a"),)).replace(flow="f" * 90, schedule=DAILY)
    setup = TARGET.emit(made, WIRING).files[SETUP]
    assert validate_setup(setup) == []
    *_, cron_job = read.parse_all(setup)
    assert cron_job["metadata"]["name"] == "f" * 52
    for old, new in (("MON-FRI", "MON#2"), ("Europe/Berlin", "Mars/Base"), ("flow", "other")):
        assert validate_setup(setup.replace(old, new)), new


def test_amounts_are_written_as_kubernetes_reads_them() -> None:
    asked = Resources(cpu="250m", memory="4000000K", gpu=2)
    made = read.parse(TARGET.emit(plan((Do("a", resources=asked),)), WIRING).text)
    found = jobs.container(made)["resources"]
    assert found["requests"] == {"cpu": "250m", "memory": "4000000k", "nvidia.com/gpu": "2"}
    assert found["limits"] == {"memory": "4000000k", "nvidia.com/gpu": "2"}


@pytest.mark.parametrize("flow", ["f" * 200, "é", "driver", "a_driver", "名前"])
def test_names_fit_for_any_flow(flow: str) -> None:
    emission = TARGET.emit(plan((Do("a"),)).replace(flow=flow), WIRING)
    assert TARGET.validate(emission.text) == []
    assert validate_setup(emission.files[SETUP]) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(A)", "1"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$(B)", "$(B)"), ("$A", "$A"),
        ("$", "$"), ("$(A", "$(A"), ("$($(A))", "$($(A))"), ("a$$b$$", "a$b$"),
    ],
)  # fmt: skip
def test_references_are_read_as_the_kubelet_reads_them(text: str, value: str) -> None:
    assert jobs.expanded(text, {"A": "1"}) == value
    assert jobs.expanded(jobs.literal(text), {"A": "1"}) == text


def test_values_of_a_run_are_variables_of_its_job() -> None:
    topic = Parameter("topic", "keyword_only", "str", "str", True, False, None)
    job = read.parse(TARGET.emit(plan((Do("a"),), parameters=(topic,)), WIRING).text)
    given = {"topic": "$(HOME)", "kitaru_execution": "e-1-", "kitaru_store": "s3://b"}
    made = jobs.filled(job, given, "run-1")
    found = variables(made)
    assert (found["KITARU_INPUT_topic"], found["KITARU_STORE"]) == ("$$(HOME)", "s3://b")
    assert made["metadata"]["name"] == "run-1" and "generateName" not in made["metadata"]
    assert made["metadata"]["labels"]["kitaru.dev/execution"] == "e-1"
    assert TARGET.validate(yaml.dump(made)) == []
    assert variables(job)["KITARU_INPUT_topic"] == "kitaru:default", "the document is as it was"
    with pytest.raises(InputError, match="unknown input 'topics'"):
        jobs.filled(job, {"topics": "x"}, "")


def test_a_long_name_keeps_its_difference() -> None:
    one, other = (jobs.short(f"kitaru-{'e' * 63}-{number}") for number in (2, 3))
    assert one != other and len(one) == len(other) == 63
    assert jobs.short("kitaru-e-2") == "kitaru-e-2"


def test_an_agent_with_a_key_runs_dry_and_the_key_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = compiled(tmp_path, "kubernetes", settings("kubernetes", ""), image=None)
    url = f"sqlite:{tmp_path / 'store.db'}"
    exec_id = dry_run.run(made, inputs={}, answers={}, store_url=url)
    assert KitaruClient(url).executions.get(exec_id).result == len(KEY)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


DYING = """
import os
from kitaru import checkpoint, flow

@checkpoint
def first() -> int:
    with open(os.environ["MARKS_OF_FLOW"], "a") as file:
        file.write("first\\n")
    return 1

@checkpoint
def second(number: int) -> int:
    with open(os.environ["MARKS_OF_FLOW"], "a") as file:
        file.write("second\\n")
    if os.path.getsize(os.environ["MARKS_OF_FLOW"]) < END:
        CODE
    return number + 1

@flow
def main() -> int:
    return second(first())
"""


@pytest.mark.parametrize(
    ("code", "end", "pods", "status"),
    [
        # A killed pod is started again, and continues after the last checkpoint.
        ("os._exit(137)", 25, 3, "completed"),
        # A flow that fails is not started again.
        ("raise ValueError('no')", 99, 1, "failed"),
    ],
)
def test_pods_start_again_as_the_policy_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, end: int, pods: int, status: str
) -> None:
    marks, ended = tmp_path / "marks", list[Ended]()
    monkeypatch.setenv("MARKS_OF_FLOW", str(marks))
    (tmp_path / "main.py").write_text(DYING.replace("CODE", code).replace("END", str(end)))
    made = compile(request(str(tmp_path / "main.py"), "kubernetes", tmp_path / "out")).build
    url = f"sqlite:{tmp_path / 'store.db'}"
    exec_id = dry_run.run(made, inputs={}, answers={}, store_url=url, report=ended.append)
    assert [one.attempt for one in ended] == [*range(1, pods + 1)]
    assert KitaruClient(url).executions.get(exec_id).status == status
    assert marks.read_text().splitlines() == ["first", *["second"] * pods]


def test_a_pod_that_never_starts_is_tried_as_often_as_the_job_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = list[Ended]()
    monkeypatch.setenv("MARKS_OF_FLOW", str(tmp_path / "marks"))
    (tmp_path / "pyproject.toml").write_text('[tool.kitaru.kubernetes]\nbackoff_limit = "2"\n')
    text = DYING.replace("CODE", "os._exit(3)").replace("END", "99")
    (tmp_path / "main.py").write_text(text)
    made = compile(request(str(tmp_path / "main.py"), "kubernetes", tmp_path / "out")).build
    url = f"sqlite:{tmp_path / 'store.db'}"
    with pytest.raises(EnvironmentFailure, match="ended with code 3"):
        dry_run.run(made, inputs={}, answers={}, store_url=url, report=ended.append)
    assert len(ended) == 3


def test_a_job_without_a_required_input_refuses_to_start(make: Make, tmp_path: Path) -> None:
    made = make(REVIEW, "kubernetes")
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    upload(made, store)
    store.close()
    setup = read.parse_all((made.directory / SETUP).read_text())
    maps = {one["metadata"]["name"]: one.get("data", {}) for one in setup}
    job = jobs.filled(job_of(made), {"kitaru_store": store.url}, "run-1")
    machine = Machine(tmp_path, tmp_path, lambda _: None, lambda: False)
    ended = jobs_dry_run.run(jobs_dry_run.Pod(job, maps), machine)
    assert (ended.code, ended.attempt) == (2, 1), "another attempt would change nothing"
    assert "missing a required argument: 'topic'" in ended.log


Change = Callable[[dict[str, Any]], Any]


def _container(job: dict[str, Any]) -> dict[str, Any]:
    return jobs.container(job)


def _pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


# A fault, and a part of what is reported. The oracle of the schemas does not see those marked.
FAULTS: dict[str, tuple[Change, str]] = {
    "unknown field": (lambda j: j["spec"].update(backofLimit=1), "backofLimit"),
    "limit a word": (lambda j: j["spec"].update(backoffLimit="six"), "backoffLimit"),
    "limit negative*": (lambda j: j["spec"].update(backoffLimit=-1), "backoffLimit"),
    "restarts in place*": (lambda j: _pod(j).update(restartPolicy="OnFailure"), "restartPolicy"),
    "no restart policy*": (lambda j: _pod(j).pop("restartPolicy"), "restartPolicy"),
    "rule of another container*": (
        lambda j: j["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"].update(
            containerName="other"
        ),
        "rules",
    ),
    "exit code 0*": (
        lambda j: j["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"].update(values=[0]),
        "rules",
    ),
    "unknown action*": (
        lambda j: j["spec"]["podFailurePolicy"]["rules"][0].update(action="Retry"),
        "rules",
    ),
    "pods replaced too early*": (
        lambda j: j["spec"].update(podReplacementPolicy="TerminatingOrFailed"),
        "podReplacementPolicy",
    ),
    "variable a number": (lambda j: _container(j)["env"][3].update(value=0), "env"),
    "variable twice*": (
        lambda j: _container(j)["env"].append({"name": "HOME", "value": "/"}),
        "HOME is set twice",
    ),
    "variable's name*": (lambda j: _container(j)["env"][3].update(name="a-b"), "env"),
    "two sources*": (lambda j: _container(j)["env"][0].update(value="x"), "env"),
    "reference to nothing*": (lambda j: _container(j)["args"].append("$(NONE)"), "NONE"),
    "reference to a later variable*": (
        lambda j: _container(j)["env"][2].update(value="$(PYTHONHASHSEED)"),
        "not set before it",
    ),
    "another execution*": (
        lambda j: _container(j).update(
            args=["x" if a == "$(KITARU_EXECUTION)" else a for a in _container(j)["args"]]
        ),
        "--execution is not the variable",
    ),
    "no name": (lambda j: _container(j).pop("name"), "name"),
    "no image*": (lambda j: _container(j).pop("image"), "image"),
    "long name*": (
        lambda j: (j["metadata"].pop("generateName"), j["metadata"].update(name="a" * 64)),
        "name",
    ),
    "underscore in a name*": (lambda j: j["metadata"].update(generateName="a_b-"), "generateName"),
    "no name at all*": (lambda j: j["metadata"].pop("generateName"), "generateName"),
    "label too long*": (lambda j: j["metadata"]["labels"].update(a="b" * 64), "labels"),
    "label a number": (lambda j: j["metadata"]["labels"].update(a=1), "labels"),
    "label key*": (lambda j: j["metadata"]["labels"].update({"-a": "b"}), "labels"),
    "annotations too long*": (
        lambda j: j["metadata"]["annotations"].update(a="b" * 300_000),
        "annotations have more",
    ),
    "document too long*": (
        lambda j: j["metadata"]["annotations"].update(a="b" * 1_000_001),
        "more than 1,000,000",
    ),
    "no quantity*": (
        lambda j: _container(j)["resources"]["requests"].update(memory="much"),
        "memory",
    ),
    "more than the limit*": (
        lambda j: _container(j)["resources"]["requests"].update(memory="2Gi"),
        "more memory is requested",
    ),
    "root*": (lambda j: _pod(j)["securityContext"].update(runAsUser=0), "runAsUser"),
    "more rights*": (
        lambda j: _container(j)["securityContext"].update(allowPrivilegeEscalation=True),
        "allowPrivilegeEscalation",
    ),
    "volume of no name*": (
        lambda j: _container(j)["volumeMounts"][0].update(name="other"),
        "no volume other",
    ),
    "mounted twice*": (
        lambda j: _container(j)["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp"}),
        "mounted at /tmp",
    ),
    "unknown version": (lambda j: j.update(apiVersion="batch/v9"), "apiVersion"),
    "unknown kind": (lambda j: j.update(kind="Jobs"), "kind"),
}


def document(text: str, change: Change) -> str:
    job = read.parse(text)
    change(job)
    return yaml.dump(job)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    change, part = FAULTS[fault]
    text = TARGET.emit(plan((Do("a"),)), WIRING).text
    problems = TARGET.validate(document(text, change))
    assert problems and part in problems[0], problems


def test_what_is_no_job_is_refused() -> None:
    for text in ("", "a: &x 1\nb: *x\n", "- 1\n", "kind: Job\n", "\0", "a: 1\n---\nb: 2\n"):
        assert TARGET.validate(text), text
    for text in ("kind: Pod\n", "kind: ConfigMap\n", "- 1\n", "\0"):
        assert validate_setup(text), text
