"""Deploy a flow: store a compiled build as a numbered version, and move tags."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.config import setting
from kitaru.errors import NotFound, StateError
from kitaru.ops.compile import (
    Compiled,
    Request,
    compile_draft,
    report_drafts,
    store_in_document,
    write_draft,
)
from kitaru.ops.declared import declare
from kitaru.ops.flow_ref import Location
from kitaru.ops.invoke import FlowDeployment, FlowHere
from kitaru.runtime.executions.deployments import DEFAULT_TAG, Deployment, Deployments, check_tag
from kitaru.runtime.journal.audit import audited
from kitaru.stores import resolve_store

if TYPE_CHECKING:
    from kitaru_targets.compare import Difference

    from kitaru.ops.findings import Report
    from kitaru.stores.base import Store

LOCAL = "local"
"""The default target of a deployment."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The result of a deployment.

    `change` is the difference between the build and the version of the first tag, None if they are
    equal. `deployment` is the version, None for a dry run.
    """

    compiled: Compiled
    warnings: tuple[str, ...]
    change: Difference | None
    deployment: Deployment | None


def deploy(
    request: Request,
    store: Store,
    tags: Sequence[str] = (),
    *,
    keeps: bool = True,
    report: Report | None = None,
) -> Deployed:
    """Compile a flow and store the build as its next version.

    A build that is equal to a version becomes no new version. The first version also gets the tag
    `default`. Later this tag moves only if it is named.

    Args:
        tags: tags to move to the version.
        keeps: whether to store the build; if false, only the changes are returned.
        report: called with the findings before anything is stored.

    Raises:
        SourceError: the source has errors.
        FlowError: `strict` is set and there are findings.
        UsageError: a tag or the target is not valid, or the build cannot be written.
        StoreUnavailable, RecordCorrupt: the store failed.
    """
    from kitaru_targets.verification import verify

    chosen = [check_tag(tag) for tag in tags]
    draft = compile_draft(request)
    report_drafts([draft], request, report)
    with tempfile.TemporaryDirectory(prefix="kitaru-deploy-") as folder:
        compiled = write_draft(draft, replace(request, directory=Path(folder)))
        warnings = verify(compiled.build.directory).warnings
        change = _change(compiled, store, (chosen or [DEFAULT_TAG])[0])
        made = _kept(compiled, store, chosen) if keeps else None
    return Deployed(compiled, warnings, change, made)


def deploy_flow(
    flow: FlowHere,
    *,
    target: str | None = None,
    tag: str | Sequence[str] = (),
    image: str | None = None,
    store: str | Store | None = None,
) -> FlowDeployment:
    """Compile and deploy a flow of this program; see `Flow.deploy`."""
    found = resolve_store(store)
    location = Location(Path(flow.function.__code__.co_filename), flow.function.__name__)
    if not location.path.is_file():
        raise StateError(
            f"The flow {flow.name} has no source file, so it cannot be compiled.",
            help="Save the code as a file, and deploy that: kitaru deploy PATH:FLOW",
        )
    request = Request(
        flow=location,
        target=setting("target", argument=target).value or LOCAL,
        directory=Path(),
        image=image,
        store=store_in_document(store if isinstance(store, str) else None),
    )
    tags = [tag] if isinstance(tag, str) else tag
    made = deploy(request, found, tags).deployment
    assert made is not None
    return FlowDeployment(made, found)


def _change(compiled: Compiled, store: Store, tag: str) -> Difference | None:
    from kitaru_targets import deploy
    from kitaru_targets.compare import compare, of_build

    try:
        before = Deployments(store).get(f"{compiled.plan.flow}@{tag}")
    except NotFound:
        return None
    with deploy.unpacked(before, store) as old:
        return compare(of_build(old), of_build(compiled.build))


def _kept(compiled: Compiled, store: Store, tags: Sequence[str]) -> Deployment:
    from kitaru_targets import deploy

    deployments = Deployments(store)
    with audited(store, "deploy", compiled.target_name, flow=compiled.plan.flow):
        made = deploy.deploy(compiled.build, store)
    first = [] if DEFAULT_TAG in deployments.tags(made.flow) else [DEFAULT_TAG]
    for tag in dict.fromkeys([*first, *tags]):
        made = deployments.tag(f"{made.flow}@{made.version}", tag)
    if DEFAULT_TAG in made.tags:
        declare(store, made.flow)
    return made
