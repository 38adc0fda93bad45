"""The Helm chart, rendered by Helm and checked with the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from kitaru.version import VERSION
from tests.project.test_offered_commands import wrong

from .conftest import DEPLOY, tool

CHART = DEPLOY / "helm" / "kitaru"
# The oldest that the chart accepts, and the newest with published schemas.
VERSIONS = ("1.27", "1.37")
DIGEST = "sha256:" + "a1" * 32
LEAST = {
    "store": "s3://team/kitaru",
    "image": {"repository": "registry.example.com/kitaru"},
    "token": {"secret": "kitaru"},
}
ALL = {
    "store": "gs://team/kitaru",
    "image": {
        "repository": "registry.example.com:5000/kitaru", "digest": DIGEST,
        "pullPolicy": "Always", "pullSecrets": ["123"],
    },
    "replicas": 3,
    "token": {"secret": "1e3", "key": "null"},
    "allowHosts": ["kitaru.internal"],
    "env": {"AWS_REGION": "eu-central-1", "ANSWER": "yes", "NUMBER": "08"},
    "secretEnv": [{"name": "OPENAI_API_KEY", "secret": "openai", "key": "api.key"}],
    "dispatcher": {"inService": False, "processes": 5,
                   "cronJob": {"enabled": True, "schedule": "*/5 * * * *"}},
    "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"a.example.com/b": "true"}},
    "ingress": {
        "enabled": True, "className": "nginx", "tlsSecret": "certificate",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "900"},
        "hosts": ["kitaru.example.com", "answers.example.com"],
    },
    "serviceAccount": {
        "name": "runner", "mountToken": True,
        "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/kitaru"},
    },
    "networkPolicy": {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}}],
        "egress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
    },
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "graceSeconds": 60,
    "signedUrls": False,
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "temporarySize": "5Gi",
    "podLabels": {"azure.workload.identity/use": "true"},
    "podAnnotations": {"a.example.com/c": "1"},
    "nodeSelector": {"pool": "small"},
    "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
    "fullnameOverride": "true",
}  # fmt: skip
# Optional parts switched off.
BARE = {
    **LEAST,
    "serviceAccount": {"create": False},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
}
CASES = {"least": LEAST, "all": ALL, "bare": BARE}
# A release that YAML reads as a number.
RELEASES = {"least": "kitaru", "all": "12", "bare": "a-" + "long-" * 9 + "name"}


def helm(folder: Path, *arguments: str, values: object) -> subprocess.CompletedProcess[str]:
    path = folder / "values.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return subprocess.run(
        [tool("service-files", "helm"), *arguments, "--values", str(path)],
        cwd=folder, text=True, capture_output=True, check=False,
    )  # fmt: skip


def render(folder: Path, case: str) -> str:
    line = ("template", RELEASES[case], str(CHART), "--namespace", "agents")
    done = helm(folder, *line, values=CASES[case])
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(text: str) -> dict[str, Any]:
    """Return the manifests by kind; there is one of each."""
    found = [one for one in yaml.load_all(text, _Unique) if one]
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


class _Unique(yaml.SafeLoader):
    """A loader that rejects a repeated key: Kubernetes would use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


@pytest.mark.parametrize("case", CASES)
def test_manifests_fit_the_schemas_of_kubernetes(case: str, tmp_path: Path) -> None:
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(render(tmp_path, case), encoding="utf-8")
    kinds = manifests(rendered.read_text(encoding="utf-8"))
    assert len(kinds) == {"least": 5, "all": 7, "bare": 2}[case]
    for version in VERSIONS:
        done = subprocess.run(
            [tool("kubernetes", "kubernetes-validate"), "--strict", "-k", version, str(rendered)],
            text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("passed") == len(kinds)


def test_the_schemas_see_a_wrong_field(tmp_path: Path) -> None:
    rendered = tmp_path / "rendered.yaml"
    text = render(tmp_path, "least").replace("maxUnavailable: 1", "maxUnavailible: 1")
    rendered.write_text(text, encoding="utf-8")
    command = [tool("kubernetes", "kubernetes-validate"), "--strict", str(rendered)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("case", CASES)
def test_helm_accepts_the_chart(case: str, tmp_path: Path) -> None:
    done = helm(tmp_path, "lint", "--strict", str(CHART), values=CASES[case])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", CASES)
def test_manifests_fit_each_other(case: str, tmp_path: Path) -> None:
    found = manifests(render(tmp_path, case))
    deployment, service = found["Deployment"], found["Service"]
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    [container] = template["spec"]["containers"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    selectors += [
        one["labelSelector"]["matchLabels"] for one in template["spec"]["topologySpreadConstraints"]
    ]
    if "PodDisruptionBudget" in found:
        selectors.append(found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    assert all(selector.items() <= labels.items() for selector in selectors)
    # Neither traffic nor the budget may count the pods of the CronJob.
    assert all(one["app.kubernetes.io/component"] == "service" for one in selectors)
    [port] = container["ports"]
    assert [one["targetPort"] for one in service["spec"]["ports"]] == [port["name"]]
    assert f"--port={port['containerPort']}" in container["args"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness", "startup")]
    assert [one["path"] for one in probes] == ["/healthz", "/readyz", "/healthz"]
    assert {one["port"] for one in probes} == {port["name"]}
    names = [one["metadata"]["name"] for one in found.values()]
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,51}", name) or case == "all" for name in names)
    if "Ingress" in found:
        for rule in found["Ingress"]["spec"]["rules"]:
            [path] = rule["http"]["paths"]
            used = path["backend"]["service"]
            assert used == {"name": service["metadata"]["name"], "port": {"name": "http"}}
            assert f"--allow-host={rule['host']}" in container["args"]
    if "NetworkPolicy" in found:
        policy = found["NetworkPolicy"]["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        [ports] = [rule["ports"] for rule in policy["ingress"]]
        assert ports == [{"port": port["containerPort"], "protocol": "TCP"}]
    if "ServiceAccount" in found:
        account = found["ServiceAccount"]["metadata"]["name"]
        assert template["spec"]["serviceAccountName"] == account


@pytest.mark.parametrize("case", CASES)
def test_commands_of_containers_are_commands(case: str, tmp_path: Path) -> None:
    found = manifests(render(tmp_path, case))
    pods = [found["Deployment"]["spec"]["template"]]
    if "CronJob" in found:
        pods.append(found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"])
    for pod in pods:
        [container] = pod["spec"]["containers"]
        assert wrong(shlex.join(["kitaru", *container["args"]])) == ""


@pytest.mark.parametrize("case", CASES)
def test_pods_have_few_rights(case: str, tmp_path: Path) -> None:
    found = manifests(render(tmp_path, case))
    pods = [found["Deployment"]["spec"]["template"]["spec"]]
    if "CronJob" in found:
        pods.append(found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    for pod in pods:
        assert pod["automountServiceAccountToken"] is (case == "all")
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert [one["mountPath"] for one in container["volumeMounts"]] == ["/tmp"]


def test_secrets_are_references(tmp_path: Path) -> None:
    found = manifests(render(tmp_path, "all"))
    assert "Secret" not in found
    [container] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one for one in container["env"]}
    assert len(variables) == len(container["env"])
    assert variables["KITARU_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "1e3", "key": "null"}
    assert variables["OPENAI_API_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "openai"
    plain = {name: one["value"] for name, one in variables.items() if "value" in one}
    assert plain["ANSWER"] == "yes" and plain["KITARU_STORE"] == "gs://team/kitaru"
    # Nobody sends requests to the pods of the CronJob.
    [job] = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "KITARU_TOKEN" not in {one["name"] for one in job["env"]}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"store": "sqlite:/data/kitaru.db"}, "/store"),
        ({"store": "s3://KEY:SECRET@team/kitaru"}, "/store"),
        ({"token": {"secret": ""}}, "/token/secret"),
        ({"token": {"secret": "kitaru", "value": "sesame"}}, "/token"),
        ({"env": {"OPENAI_API_KEY": "sk-1"}}, "env.OPENAI_API_KEY looks like a secret"),
        ({"env": {"KITARU_TOKEN": "sesame"}}, "'KITARU_TOKEN'"),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, "list it in secretEnv"),
        ({"env": {"DEBUG": True}}, "/env/DEBUG"),
        ({"image": {"repository": "a", "digest": "sha256:1"}}, "/image/digest"),
        ({"ingress": {"enabled": True}}, "/ingress/hosts"),
        ({"ingress": {"enabled": True, "hosts": ["*.example.com"]}}, "/ingress/hosts"),
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "'app.kubernetes.io/name'"),
        ({"dispatcher": {"cronJob": {"enabled": True, "schedule": "often"}}}, "/schedule"),
        ({"resources": {"limits": {"memory": "much"}}}, "/resources/limits/memory"),
        ({"replica": 3}, "replica"),
        ({"fullnameOverride": "a" * 42}, "/fullnameOverride"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any], named: str, tmp_path: Path) -> None:
    done = helm(tmp_path, "template", "kitaru", str(CHART), values={**LEAST, **wrong})
    assert done.returncode == 1
    assert named in done.stderr


def test_the_values_that_are_required_are_named(tmp_path: Path) -> None:
    done = helm(tmp_path, "template", "kitaru", str(CHART), values={})
    assert all(name in done.stderr for name in ("/store", "/image/repository", "/token/secret"))


def test_each_value_has_a_comment_and_a_type() -> None:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    # Of Helm itself.
    assert set(schema["properties"]) - {"global"} == set(values)
    lines = text.splitlines()
    undocumented = [
        line
        for before, line in pairwise(lines)
        # A key whose value is written below it explains itself, unless it is at the top.
        if re.fullmatch(r" *\w+: .+", line) and not before.strip().startswith("#")
    ]
    assert undocumented == ["    cpu: 100m", "    memory: 256Mi", "    memory: 1Gi"]
    for name, value in values.items():
        typed = schema["properties"][name]
        if isinstance(value, dict) and value and "properties" in typed:
            assert set(typed["properties"]) == set(value), name
            assert typed["additionalProperties"] is False


def test_the_chart_has_the_version_of_kitaru() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == VERSION


def test_notes_name_the_next_step(tmp_path: Path) -> None:
    for values, wanted in (
        (LEAST, "port-forward service/kitaru 8088:80"),
        (ALL, "https://kitaru."),
    ):
        line = ("install", "kitaru", str(CHART), "--dry-run=client")
        done = helm(tmp_path, *line, values=values)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout.partition("NOTES:")[2]
