"""A project's overrides are the last word on an emitted document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from kitaru_targets import overrides, registry
from kitaru_targets.airflow import dag_file
from kitaru_targets.base import Emission
from kitaru_targets.residual_build import remainder

from kitaru.client import KitaruClient
from kitaru.errors import FlowError, KitaruError, UsageError
from kitaru.ops.compile import Compiled, compile, request
from kitaru.ops.verify_build import verify_build
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.plan import Plan, PlannedOverride
from tests.cli.conftest import Kitaru

from .conftest import REVIEW
from .test_vendor import relock

Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Return a function that compiles a flow in a project with overrides, in TOML."""
    monkeypatch.chdir(tmp_path)

    def made(target: str, *given: str, source: str = REVIEW, out: str = "out") -> Compiled:
        (tmp_path / "flow.py").write_text(dedent(source))
        tables = "".join(f"[[tool.kitaru.{target}.overrides]]\n{dedent(one)}\n" for one in given)
        (tmp_path / "pyproject.toml").write_text(
            f'[project]\nname = "p"\nversion = "0"\n\n{tables}'
        )
        return compile(request("flow.py", target, tmp_path / out, store="s3://bucket/prefix"))

    return made


def added(at: str, path: str, value: str, file: str = "", op: str = "add") -> str:
    named = f'file = "{file}"\n' if file else ""
    return f'{named}at = "{at}"\npatch = [{{ op = "{op}", path = "{path}", value = {value} }}]'


def removed(at: str, path: str) -> str:
    return f'at = "{at}"\npatch = [{{ op = "remove", path = "{path}" }}]'


def only(text: str) -> Any:
    return next(iter(yaml.safe_load_all(text)))


@pytest.mark.parametrize(
    ("target", "override", "place", "value"),
    [
        (
            "argo", added("/WorkflowTemplate/spec", "/activeDeadlineSeconds", "900"),
            ("spec", "activeDeadlineSeconds"), 900,
        ),
        (
            "azureml", added("/jobs/publish", "/limits/timeout", "60", op="replace"),
            ("jobs", "publish", "limits", "timeout"), 60,
        ),
        (
            "kubeflow", added("/**/tasks/draft/cachingOptions", "/enableCache", "false"),
            ("root", "dag", "tasks", "draft", "cachingOptions", "enableCache"), False,
        ),
        (
            "kubernetes", added("/spec/template/spec", "/priorityClassName", "'high'"),
            ("spec", "template", "spec", "priorityClassName"), "high",
        ),
        (
            "sagemaker", added("/Steps/draft/Arguments/StoppingCondition",
                               "/MaxRuntimeInSeconds", "60", op="replace"),
            ("Steps", 0, "Arguments", "StoppingCondition", "MaxRuntimeInSeconds"), 60,
        ),
        (
            "stepfunctions", added("/States/draft", "/TimeoutSeconds", "60", op="replace"),
            ("States", "draft", "TimeoutSeconds"), 60,
        ),
        (
            "vertex", added("/deploymentSpec/executors/*/container", "/resources",
                            "{ cpuLimit = 4.0 }"),
            ("deploymentSpec", "executors", "exec-kitaru-step", "container", "resources"),
            {"cpuLimit": 4.0},
        ),
    ],
)  # fmt: skip
def test_every_target_takes_overrides(
    compiled: Compile, target: str, override: str, place: tuple[Any, ...], value: Any
) -> None:
    plain = only(compiled(target).document.read_text())
    made = compiled(target, override)
    found: Any = only(made.document.read_text())
    assert found != plain
    for part in place:
        found = found[part]
    assert found == value


def test_airflow_takes_options_of_its_operators_and_its_dag(compiled: Compile) -> None:
    made = compiled(
        "airflow",
        added("/dag", "/tags", '["ml"]'),
        added("/tasks/*", "/priority_weight", "3"),
        added("/tasks/publish", "/executor_config", '{ pod = "big" }'),
    )
    read = dag_file.read(made.document.read_text())
    assert read.dag["tags"] == ["ml"]
    assert {task.options["priority_weight"] for task in read.tasks} == {3}
    assert read.tasks[-1].options["executor_config"] == {"pod": "big"}


def test_a_document_beside_the_main_one_is_named(compiled: Compile) -> None:
    file = "task-definition.json"
    made = compiled("stepfunctions", added("", "/ephemeralStorage", "{ sizeInGiB = 50 }", file))
    task = json.loads((made.directory / file).read_text())
    assert task["ephemeralStorage"] == {"sizeInGiB": 50}
    setup = added("/ServiceAccount/metadata", "/labels", '{ team = "ml" }', "setup.yaml")
    account, *_ = yaml.safe_load_all(
        (compiled("kubernetes", setup).directory / "setup.yaml").read_text()
    )
    assert account["metadata"]["labels"] == {"team": "ml"}


def test_a_step_is_found_by_its_name_at_any_depth(compiled: Compile) -> None:
    source = REVIEW.replace("publish", "publish_it")
    step = added("/**/publish_it/Arguments/StoppingCondition", "/MaxRuntimeInSeconds", "60")
    text = compiled("sagemaker", step, source=source).document.read_text()
    assert '"Name": "publish-it"' in text
    assert text.count('"MaxRuntimeInSeconds": 60') == 1


def test_an_override_may_be_for_one_flow(compiled: Compile) -> None:
    other = 'flow = "other"\n' + added("/no/such/place", "/x", "1")
    own = 'flow = "review"\n' + added("/WorkflowTemplate/spec", "/priority", "1")
    made = compiled("argo", other, own)
    assert only(made.document.read_text())["spec"]["priority"] == 1
    assert len(made.plan.overrides) == 1
    assert Plan.from_json(made.plan.to_json()) == made.plan


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (added("/WorkflowTemplate/spec/none", "/x", "1"), "the document has no such node"),
        (added("/WorkflowTemplate/spec", "/none/x", "1"), "the patch does not fit"),
        (added("/WorkflowTemplate/spec", "/x", "1", op="ad"), "Unknown operation 'ad'"),
        (added("/WorkflowTemplate/spec", "/priority", "2", op="test"), "the patch does not fit"),
        (added("WorkflowTemplate", "/x", "1"), "must start with /"),
        (added("", "/x", "1", "no.yaml"), "no.yaml is not a document that an override can"),
        ('at = "/WorkflowTemplate"\npatch = [{ op = "add" }]', "path"),
        ('at = "/WorkflowTemplate"\npatch = []', "must be a table of options"),
        ('at = "/WorkflowTemplate"', "must be a table of options"),
        (added("/WorkflowTemplate", "/x", "2026-01-01"), "must be a table of options"),
        (added("/WorkflowTemplate", "/x", "nan"), "must be a table of options"),
        ('where = "/x"\npatch = [{ op = "remove", path = "/x" }]', "must be a table of options"),
    ],
)
def test_an_override_that_does_not_fit_is_an_error(
    compiled: Compile, tmp_path: Path, override: str, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        compiled("argo", override)
    assert said in str(caught.value), caught.value
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "override"),
    [
        ("argo", removed("/WorkflowTemplate/spec", "/entrypoint")),
        ("argo", removed("/WorkflowTemplate/spec", "/templates/0")),
        ("argo", added("/**/publish", "/template", "'none'", op="replace")),
        ("airflow", added("/tasks/publish", "/after", "{}", op="replace")),
        ("kubernetes", removed("/spec/template/spec", "/containers")),
        ("sagemaker", added("/Steps/draft", "/Name", "'other'", op="replace")),
        ("stepfunctions", removed("/States", "/draft")),
        ("vertex", removed("/deploymentSpec", "/executors")),
    ],
)  # fmt: skip
def test_an_override_cannot_break_the_flow(compiled: Compile, target: str, override: str) -> None:
    with pytest.raises(FlowError, match="would not run the flow as it is meant"):
        compiled(target, override)


def test_a_target_without_data_takes_no_overrides() -> None:
    target = registry.get("local")
    plan = Plan("f", "f", "f.py", 1, "", "0", "checkpoint", (), (), (), ()).replace(
        overrides=(PlannedOverride("/x", ({"op": "remove", "path": "/x"},)),)
    )
    with pytest.raises(UsageError, match="is not a document that an override can change"):
        overrides.apply(plan, target, Emission("", {}, {}), rest=False)


def test_an_override_contains_no_secret(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "sk-Zk93xQ7Lm2Vw8Rt4Yp6Nb1Hc")
    with pytest.raises(UsageError, match="SERVICE_API_KEY would be in the build"):
        compiled(
            "argo", added("/WorkflowTemplate/spec", "/priority", "'sk-Zk93xQ7Lm2Vw8Rt4Yp6Nb1Hc'")
        )


def test_verify_lists_overrides(compiled: Compile, tmp_path: Path) -> None:
    made = compiled("argo", added("/WorkflowTemplate/spec", "/priority", "1"))
    (named,) = verify_build(made.directory).overrides
    assert named == "/WorkflowTemplate/spec: add /priority"
    text = made.document.read_text()
    assert "# Changed by 1 of [[tool.kitaru.argo.overrides]]." in text
    command = [
        "verify",
        str(made.directory),
        "--source",
        "flow.py",
        "--store",
        "s3://bucket/prefix",
    ]
    kitaru = Kitaru(tmp_path)
    good, described = kitaru.each([command, [*command, "--json"]])
    assert f"overridden by the project: {named}" in good.out
    assert described.document["overrides"] == [named]
    relock(made.build, made.document.name, text.replace("priority: 1", "priority: 2"))
    assert "is not what flow.py compiles to" in kitaru(*command, code=1).err


def test_the_remaining_steps_have_the_overrides_that_fit(compiled: Compile, tmp_path: Path) -> None:
    made = compiled(
        "argo",
        added("/**/draft", "/hooks", "{}"),
        added("/WorkflowTemplate/spec", "/priority", "1"),
    )
    store = f"sqlite:{tmp_path}/s.db"
    exec_id = KitaruClient(store).dry_run("flow.py:review", {"topic": "tea"}, "argo").exec_id
    rest = remainder(made.build, Journal.open(open_store(store), exec_id), tmp_path / "rest")
    text = rest.document.read_text()
    assert only(text)["spec"]["priority"] == 1
    assert "hooks" not in text and "draft" not in text


def test_a_dry_run_reads_the_changed_document(compiled: Compile, tmp_path: Path) -> None:
    compiled("argo", added("/WorkflowTemplate/spec", "/priority", "1"))
    client = KitaruClient(f"sqlite:{tmp_path}/s.db")
    done = client.dry_run("flow.py:review", {"topic": "tea"}, "argo", answers={"approve": True})
    assert done.result == "published: tea tea"


def test_the_error_names_a_missing_package(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jsonpatch", None)
    with pytest.raises(KitaruError, match="jsonpatch, which is not installed"):
        compiled("argo", added("/WorkflowTemplate/spec", "/priority", "1"))
