"""Decides how a build becomes a version of a deployed flow, and a version a run of its target."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitaru.runtime.executions.deployments import LOCK, Deployment, Deployments
from kitaru.runtime.recording import launches
from kitaru.runtime.recording.journal import Journal
from kitaru.stores import Store

from . import build as builds
from . import registry
from .base import Submitted, Target
from .build import Build
from .common.keys import slug
from .remainder import stored
from .upload import submit, upload


def deploy(build: Build, store: Store) -> Deployment:
    """Keep a build in the store as a version of its flow, with the bundle where steps fetch it.

    The same build is the same version. Raises EnvironmentFailure when a file is not what was
    compiled.
    """
    files = {name: (build.directory / name).read_bytes() for name in build.files}
    upload(build, store)
    return Deployments(store).add(build.plan.flow, build.target.name, files)


@contextmanager
def unpacked(deployment: Deployment, store: Store) -> Iterator[Build]:
    """Write a version to a directory for as long as the block runs; everything is verified.

    Raises RecordCorrupt when a file is not what was deployed, UsageError for an unknown target.
    """
    deployments = Deployments(store)
    with tempfile.TemporaryDirectory(prefix="kitaru-deployed-") as folder:
        for name in deployment.files:
            (Path(folder) / name).write_bytes(deployments.read(deployment, name))
        yield builds.read(Path(folder))


def go_on(journal: Journal, *, image: str | None = None, options: Mapping[str, str]) -> Submitted:
    """Start a run of what is left of an execution, on the service that it began on.

    Only the store is read: code and image are those that the execution began with; `image` stands
    in for the image of one that no version began.

    Raises:
        StateError: the store does not hold the code of the execution.
        UsageError, EnvironmentFailure: as `kitaru_targets.upload.submit` raises them.
    """
    target = registry.get(journal.execution.target)
    with tempfile.TemporaryDirectory(prefix="kitaru-rest-") as folder:
        rest = stored(journal, target, Path(folder) / "rest", image=_image(journal) or image)
        return submit(
            rest,
            inputs={},
            store_url=journal.store.url,
            exec_id=journal.exec_id,
            options={**_named(target, journal.execution.flow, journal.exec_id), **options},
        )


def _image(journal: Journal) -> str:
    """Return the image of the version that an execution was started from, if any."""
    version = launches.version(journal.store, journal.exec_id)
    if not version:
        return ""
    deployments = Deployments(journal.store)
    deployed = deployments.get(f"{journal.execution.flow}@{version}")
    return str(json.loads(deployments.read(deployed, LOCK))["image"])


def _named(target: Target, flow: str, what: str) -> dict[str, str]:
    """Return the option that gives what the service keeps a name of its own, if it keeps any."""
    name = target.submitted_name
    return {name: f"{slug(flow, fallback='flow')}-{what}"} if name else {}


def invoke(
    deployment: Deployment,
    store: Store,
    *,
    inputs: Mapping[str, Any],
    exec_id: str,
    options: Mapping[str, str],
) -> Submitted:
    """Start a run of a version on its target's service, as the execution `exec_id`.

    What the service itself keeps under a name is named after the version, so that no later one
    changes it. Raises what `kitaru_targets.upload.submit` raises.
    """
    with unpacked(deployment, store) as build:
        return submit(
            build,
            inputs=inputs,
            store_url=store.url,
            exec_id=exec_id,
            options={**_named(build.target, deployment.flow, deployment.version), **options},
        )
