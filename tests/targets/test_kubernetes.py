"""Settings of pods: secrets, scheduling, labels and annotations, with the target's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import build, dry_run, registry
from kitaru_targets.airflow import dag_file
from kitaru_targets.common import read
from kitaru_targets.verification import verify

from kitaru.client import KitaruClient
from kitaru.errors import UsageError
from kitaru.ops.compile import compile, request

FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def ask(question: str) -> int:
    return len(kitaru.secret("OPENAI_API_KEY"))

@flow
def agent(question: str = "why") -> int:
    return ask(question)
"""
POD = """
image_pull_secrets = "registry, other"
node_selector = "cloud.google.com/gke-nodepool=gpu"
tolerations = "nvidia.com/gpu=present:NoSchedule, spot:NoExecute"
labels = "team=ml,cost-centre=42"
annotations = "example.org/note=https://example.org/?a=1"
secret_volumes = "tls:/etc/tls"
"""
# The targets whose steps are always pods.
PODS = ("argo", "kubeflow", "kubernetes")
KEY = "sk-never-in-a-file-1234567890"


def compiled(
    folder: Path, target: str, settings: str, image: str | None = "registry/agent:1"
) -> build.Build:
    (folder / "agent.py").write_text(FLOW)
    (folder / "pyproject.toml").write_text(settings)
    asked = request(str(folder / "agent.py"), target, folder / "build", image=image)
    return compile(asked).build


def settings(target: str, options: str = POD) -> str:
    secret = '[tool.kitaru.secrets]\nOPENAI_API_KEY = "k8s:openai/api-key"\n'
    return f"{secret}[tool.kitaru.{target}]\n{options}"


def test_kubeflow_sets_them_in_a_second_document(tmp_path: Path) -> None:
    made = compiled(tmp_path, "kubeflow", settings("kubeflow"))
    pipeline, platform = read.parse_all(made.document.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors.keys() == pipeline["deploymentSpec"]["executors"].keys()

    def named(secret: str) -> dict[str, Any]:
        parameter = {"runtimeValue": {"constant": secret}}
        return {"secretName": secret, "secretNameParameter": parameter}

    assert executors["exec-kitaru-start"] == {
        "secretAsEnv": [
            {
                **named("openai"),
                "keyToEnv": [{"secretKey": "api-key", "envVar": "OPENAI_API_KEY"}],
            }
        ],
        "secretAsVolume": [{**named("tls"), "mountPath": "/etc/tls"}],
        "imagePullSecret": [named("registry"), named("other")],
        "nodeSelector": {"labels": {"cloud.google.com/gke-nodepool": "gpu"}},
        "tolerations": [
            {
                "key": "nvidia.com/gpu",
                "value": "present",
                "effect": "NoSchedule",
                "operator": "Equal",
            },
            {"key": "spot", "effect": "NoExecute", "operator": "Exists"},
        ],
        "podMetadata": {
            "labels": {"team": "ml", "cost-centre": "42"},
            "annotations": {"example.org/note": "https://example.org/?a=1"},
        },
    }
    assert verify(made.directory).problems == ()


def test_airflow_sets_them_on_its_pods(tmp_path: Path) -> None:
    made = compiled(tmp_path, "airflow", settings("airflow", f'{POD}namespace = "flows"'))
    assert dag_file.read(made.document.read_text()).flow["pod"] == {
        "image": "registry/agent:1",
        "namespace": "flows",
        "secrets": {"OPENAI_API_KEY": ["openai", "api-key"]},
        "image_pull_secrets": ["registry", "other"],
        "node_selector": {"cloud.google.com/gke-nodepool": "gpu"},
        "tolerations": [
            {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
            {"key": "spot", "value": "", "effect": "NoExecute"},
        ],
        "labels": {"team": "ml", "cost-centre": "42"},
        "annotations": {"example.org/note": "https://example.org/?a=1"},
        "secret_volumes": {"/etc/tls": "tls"},
    }


@pytest.mark.parametrize("target", PODS)
def test_an_agent_with_a_key_runs_dry_and_the_key_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = compiled(tmp_path, target, settings(target, ""), image=None)
    url = f"sqlite:{tmp_path / 'store.db'}"
    exec_id = dry_run.run(made, inputs={}, answers={}, store_url=url)
    assert KitaruClient(url).executions.get(exec_id).result == len(KEY)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_without_settings_there_is_one_document(tmp_path: Path) -> None:
    text = compiled(tmp_path, "kubeflow", "").document.read_text()
    assert len(read.parse_all(text)) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("image_pull_secrets", "Registry"),
        ("node_selector", "gpu"),
        ("tolerations", "gpu=present"),
        ("tolerations", "gpu=present:Never"),
        ("labels", "a=b c"),
        ("annotations", "a"),
        ("secret_volumes", "tls:etc"),
        ("colour", "red"),
    ],
)
@pytest.mark.parametrize("target", [*PODS, "airflow"])
def test_a_value_that_kubernetes_refuses_is_refused(
    tmp_path: Path, target: str, option: str, value: str
) -> None:
    with pytest.raises(UsageError, match=option):
        compiled(tmp_path, target, settings(target, f'{option} = "{value}"\n'))


@pytest.mark.parametrize("target", [name for name in registry.names() if name not in PODS])
def test_a_step_that_is_no_pod_has_no_secret_of_kubernetes(tmp_path: Path, target: str) -> None:
    image = None if target == "airflow" else "registry/agent:1"
    with pytest.raises(UsageError, match=r"OPENAI_API_KEY is in Kubernetes, and .* runs no pods"):
        compiled(tmp_path, target, '[tool.kitaru.secrets]\nOPENAI_API_KEY = "k8s:a/b"\n', image)


@pytest.mark.parametrize("place", ["openai", "openai/", "Open/key", "a/b/c"])
def test_a_reference_names_a_key_of_a_secret(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not valid"):
        compiled(tmp_path, "kubeflow", f'[tool.kitaru.secrets]\nOPENAI_API_KEY = "k8s:{place}"\n')


def test_the_check_finds_faults_in_the_second_document(tmp_path: Path) -> None:
    check = registry.get("kubeflow").validate
    text = compiled(tmp_path, "kubeflow", settings("kubeflow")).document.read_text()
    assert check(text) == []
    first = text.partition("---\n")[0]
    assert check(text.replace("nodeSelector:", "nodes:"))[0].endswith("no field nodes")
    assert check(f"{first}---\nplatforms: {{}}\n") == [
        "the second document has no settings of Kubernetes"
    ]
    assert check(f"{text}---\n{text.partition('---')[2]}") == ["there is a third document"]
    assert check(
        text.replace(
            "        exec-kitaru-start:\n          secret", "        other:\n          secret"
        )
    )
    assert registry.get("vertex").validate(text) == ["there is a second document"]
