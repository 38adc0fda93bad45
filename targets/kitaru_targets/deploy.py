"""Turn a build into a version of a deployed flow, and a version into a run of its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitaru.errors import StateError
from kitaru.runtime.executions.deployments import Deployment, Deployments
from kitaru.stores import Store
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import LOCK
from kitaru_targets import build as builds
from kitaru_targets import lock
from kitaru_targets.base import Submitted, Target
from kitaru_targets.build import Build
from kitaru_targets.common.node_names import slug
from kitaru_targets.upload import submit, upload


def deploy(build: Build, store: Store) -> Deployment:
    """Store a build as a version of its flow, with the bundle for its steps to fetch.

    A build that is equal to a version becomes no new version. Raises StateError if a file differs
    from the compiled build.
    """
    files = {name: build.read(name) for name in build.lock.files}
    files[LOCK] = lock.read_file(build.directory, LOCK)
    if sha256(files[LOCK]) != build.lock.digest:
        raise StateError(
            f"{build.directory / LOCK} changed after it was compiled.",
            help="Compile again: kitaru compile FLOW --target T",
        )
    upload(build, store)
    return Deployments(store).add(build.plan.flow, build.target.name, files)


@contextmanager
def unpacked(deployment: Deployment, store: Store) -> Iterator[Build]:
    """Write a verified version to a directory that exists while the block runs.

    Raises RecordCorrupt if a file differs from the deployed file, UsageError for an unknown target.
    """
    deployments = Deployments(store)
    with tempfile.TemporaryDirectory(prefix="kitaru-deployed-") as folder:
        where = f"{deployment.flow} {deployment.version}"
        locked = lock.parse(deployments.read(deployment, LOCK), where)
        # The lock's names have been checked: none leaves the folder.
        for name in (*locked.files, LOCK):
            (Path(folder) / name).write_bytes(deployments.read(deployment, name))
        yield builds.read(Path(folder))


def names(target: Target, flow: str, what: str) -> dict[str, str]:
    """Return the option that names the document on the service, if the service stores it."""
    name = target.submitted_name
    return {name: f"{slug(flow, fallback='flow')}-{what}"} if name else {}


def run_token(target: Target, token: str) -> dict[str, str]:
    """Return the option that makes runs with the same token one run, if the service has it."""
    return {target.run_option: slug(token, fallback="run")} if target.run_option else {}


def invoke(
    deployment: Deployment,
    store: Store,
    *,
    inputs: Mapping[str, Any],
    exec_id: str,
    token: str,
    options: Mapping[str, str],
) -> Submitted:
    """Start a run of a version on its target's service, as the execution `exec_id`.

    `token` names the run: the same token addresses the same run, if the service supports it.
    Documents that the service stores are named after the version, so that no later version changes
    them. Raises the errors of `kitaru_targets.upload.submit`.
    """
    with unpacked(deployment, store) as build:
        return submit(
            build,
            inputs=inputs,
            store_url=store.url,
            exec_id=exec_id,
            options={
                **names(build.target, deployment.flow, deployment.version),
                **run_token(build.target, token),
                **options,
            },
        )
