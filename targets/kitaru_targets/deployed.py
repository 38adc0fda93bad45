"""Decides how a build becomes a version of a deployed flow, and a version a run of its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitaru.runtime.deployments import Deployment, Deployments
from kitaru.stores import Store

from . import build as builds
from .base import Submitted
from .build import Build
from .common.keys import slug
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
        name = build.target.submitted_name
        named = {name: f"{slug(deployment.flow, fallback='flow')}-{deployment.version}"}
        return submit(
            build,
            inputs=inputs,
            store_url=store.url,
            exec_id=exec_id,
            options={**(named if name else {}), **options},
        )
