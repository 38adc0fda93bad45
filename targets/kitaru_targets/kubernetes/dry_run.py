"""Run a Job alone: its pod as a process, started again as the Job's policy says, without pauses.

Kubernetes starts another pod up to `backoffLimit` times, unless a rule about the exit code fails
the Job. The variables of secrets are those of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru_targets.common import parameters, read
from kitaru_targets.dry_run.process import Ended, Machine, Start
from kitaru_targets.kubernetes import job as jobs
from kitaru_targets.kubernetes.job import expanded
from kitaru_targets.kubernetes.profile import SETUP

# The file of the container's message, in the folder of a process.
_MESSAGE = "message"
_NAMESPACE = "default"


def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
    """Run a Job with the given parameters, its pod as a process of `machine`."""
    # Names of runs become execution ids. Here the run has the name of its execution.
    named = {**given, parameters.EXECUTION: given.get(parameters.EXECUTION) or run_id}
    job = jobs.filled(read.parse(text), named, jobs.short(run_id))
    setup = read.parse_all(machine.further[SETUP])
    run(Pod(job, {one["metadata"]["name"]: one.get("data", {}) for one in setup}), machine)


def run(pod: Pod, machine: Machine) -> Ended:
    """Run the pods of a Job until one succeeds, or the Job fails; return the last one's end."""
    for attempt in range(1, pod.job["spec"]["backoffLimit"] + 2):
        ended = machine.run(pod.start(attempt))
        if ended.succeeded or _is_final(pod.job, ended.code):
            break
    return ended


def _is_final(job: Mapping[str, Any], code: int) -> bool:
    """Return whether a rule of the Job fails it for an exit code."""
    return any(
        rule["action"] == "FailJob" and code in rule.get("onExitCodes", {}).get("values", ())
        for rule in job["spec"]["podFailurePolicy"]["rules"]
    )


class Pod:
    """A pod of a Job that has a name, as the kubelet starts it.

    `config_maps` are the texts of the ConfigMaps by name and key.
    """

    def __init__(
        self, job: Mapping[str, Any], config_maps: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.job = job
        self._config_maps = config_maps
        self._container = jobs.container(job)
        self._spec = job["spec"]["template"]["spec"]

    def start(self, attempt: int) -> Start:
        """Return the start of the pod's process."""
        environment = self.environment()
        words = [
            expanded(word, environment)
            for word in (*self._container["command"], *self._container["args"])
        ]
        step = words[words.index("--step") + 1]

        def command(folder: Path) -> list[str]:
            files = self._mounted(folder.parent / "mounts")
            files[self._container["terminationMessagePath"]] = folder / _MESSAGE
            return [str(files.get(word, word)) for word in words]

        return Start(step, step, attempt, command, self._of_this_machine(environment), _message)

    def environment(self) -> dict[str, str]:
        """Return the variables of the container, apart from those of secrets."""
        known: dict[str, str] = {}
        for one in self._container["env"]:
            source = one.get("valueFrom", {})
            if "value" in one:
                known[one["name"]] = expanded(one["value"], known)
            elif "fieldRef" in source:
                known[one["name"]] = self._field(source["fieldRef"]["fieldPath"])
            elif "configMapKeyRef" in source:
                place = source["configMapKeyRef"]
                known[one["name"]] = self._config_maps[place["name"]][place["key"]]
        return known

    def _field(self, path: str) -> str:
        metadata = self.job["metadata"]
        if path == "metadata.namespace":
            return str(metadata.get("namespace", _NAMESPACE))
        return str(metadata["name"])

    def _mounted(self, folder: Path) -> dict[str, Path]:
        """Write the files of ConfigMaps below `folder`; return them by path in the container."""
        volumes = {one["name"]: one.get("configMap") for one in self._spec["volumes"]}
        found = {}
        for mount in self._container["volumeMounts"]:
            config_map = volumes[mount["name"]]
            for item in config_map["items"] if config_map else ():
                file = folder / mount["name"] / item["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(self._config_maps[config_map["name"]][item["key"]], "utf-8")
                found[f"{mount['mountPath']}/{item['path']}"] = file
        return found

    def _of_this_machine(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables without those that name a folder of the container."""
        folders = {one["mountPath"] for one in self._container["volumeMounts"]}
        own = ("HOME", "PIP_TARGET", "PYTHONPATH")
        return {n: v for n, v in environment.items() if n not in own or v not in folders}


def _message(folder: Path) -> Mapping[str, str] | None:
    """Return the texts of the outcome, None if the container has left no message."""
    file = folder / _MESSAGE
    if not file.is_file():
        return None
    outcome = json.loads(file.read_text("utf-8"))
    return {name: value for name, value in outcome.items() if isinstance(value, str)}
