"""An API server of Kubernetes on loopback, and a kubelet that runs Jobs as processes.

It knows the rules that a submission meets: namespaces, names that exist, rights, and refused
objects. Answers of the kubelet are conditions of a Job, as its controller writes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from kitaru_targets import registry
from kitaru_targets.common.yaml import dump
from kitaru_targets.kubernetes.dry_run import Pod
from kitaru_targets.kubernetes.validate import validate_setup

from tests import forks
from tests.deploy.test_services import Heard, Refused, scripted

TARGET = registry.get("kubernetes")
NAMESPACE = "agents"
CONTEXT = "loopback"


class Cluster:
    """The objects of a cluster by kind, namespace and name. `denied` are refused kinds.

    With `runs`, each Job runs on a thread. Those in `lost` fail before their process starts.
    """

    def __init__(self, *, runs: bool = False) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.denied: set[str] = set()
        self.lost: set[str] = set()
        self.logs: list[str] = []
        self._runs = runs
        self._lock = threading.Lock()
        self._kubelet: list[threading.Thread] = []

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the Jobs by name."""
        found = {**self.objects}
        return {name: job for (kind, _, name), job in found.items() if kind == "jobs"}

    def answer(self, request: Heard) -> Any:
        path = urlsplit(request.path).path.strip("/").split("/")
        if path[:2] == ["api", "v1"]:
            path = ["apis", "core", *path[1:]]
        # apis GROUP VERSION namespaces NAMESPACE KIND [NAME]
        namespace, kind, *named = path[4:]
        if kind in self.denied:
            return refused(403, "Forbidden", f'{kind} is forbidden: User "a" cannot create {kind}')
        if request.method == "GET":
            found = self.objects.get((kind, namespace, named[0]))
            return found or refused(404, "NotFound", f'{kind} "{named[0]}" not found')
        assert "fieldValidation=Strict" in request.path
        if namespace != NAMESPACE:
            return refused(404, "NotFound", f'namespaces "{namespace}" not found')
        check = TARGET.validate if kind == "jobs" else validate_setup
        if problems := check(dump(request.body)):
            return refused(422, "Invalid", problems[0])
        return self._create(kind, namespace, request.body)

    def _create(self, kind: str, namespace: str, body: dict[str, Any]) -> Any:
        metadata = dict(body["metadata"])
        with self._lock:
            number = len(self.objects)
            name = metadata.setdefault("name", f"{metadata.pop('generateName', '')}{number:05}")
            if (kind, namespace, name) in self.objects:
                return refused(409, "AlreadyExists", f'{kind} "{name}" already exists')
            made = {**body, "metadata": {**metadata, "uid": f"u-{number}"}, "status": {}}
            self.objects[kind, namespace, name] = made
        if kind == "jobs" and self._runs:
            kubelet = threading.Thread(target=self._run, args=(made,))
            self._kubelet.append(kubelet)
            kubelet.start()
        return Refused(201, made)

    def _run(self, job: dict[str, Any]) -> None:
        """Run the pod of a Job, once, with the variables of the machine's cloud."""
        if job["metadata"]["name"] in self.lost:
            job["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
            return
        maps = {
            name: one["data"]
            for (kind, _, name), one in {**self.objects}.items()
            if kind == "configmaps"
        }
        start = Pod(job, maps).start(1)
        keep = {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "LANG"))}
        path = forks.with_forks(os.environ["PATH"])
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "outputs"
            first, *words = start.command(place)
            assert first == "python3"
            done = subprocess.run(
                [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False,
                env={**keep, "PATH": path, "PIP_NO_INDEX": "1", "TMPDIR": folder,
                     **start.environment},
            )  # fmt: skip
            message = start.read(place) if done.returncode == 0 else None
        self.logs.append(done.stderr)
        kind = "Complete" if done.returncode == 0 else "Failed"
        job["status"] = {"conditions": [{"type": kind, "status": "True"}], "message": message}

    def join(self) -> None:
        """Wait for the Jobs."""
        for kubelet in self._kubelet:
            kubelet.join()


def refused(status: int, reason: str, message: str) -> Refused:
    """Return a refusal in the form of the API server."""
    return Refused(
        status,
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
         "message": message, "code": status},
    )  # fmt: skip


@contextmanager
def running(cluster: Cluster, kubeconfig: Path) -> Iterator[None]:
    """Serve a cluster, and write the kubeconfig that leads to it."""
    with scripted(cluster.answer) as (url, _):
        write_kubeconfig(kubeconfig, url)
        try:
            yield
        finally:
            cluster.join()


def write_kubeconfig(path: Path, url: str) -> None:
    context = {"cluster": "c", "user": "u", "namespace": NAMESPACE}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": CONTEXT,
                "contexts": [{"name": CONTEXT, "context": context}],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
