"""`/api/v1/flows`: deployed flows, their versions and tags, and how to start them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path

from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.ops.dispatch import means_of
from kitaru.ops.invoke import find, invoke
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, Dispatching, problems, started

router = APIRouter(prefix="/api/v1/flows", tags=["flows"])

Flow = Annotated[str, Path(description="Name of a deployed flow.")]
Tag = Annotated[str, Path(description="Name of a tag.")]


@router.get("", response_model=models.Flows, responses=problems())
@needs(VIEWER)
def list_flows(client: Client) -> dict[str, Any]:
    """List the deployed flows, each with its newest version and its tags."""
    deployments = client.deployments
    items = []
    for name in deployments.flows():
        found = deployments.list(name)
        tags = {tag: one.version for one in found for tag in one.tags}
        items.append({"flow": name, "newest": found[-1].version, "tags": tags})
    return {"items": items}


@router.get("/{flow}", response_model=models.Versions, responses=problems(404))
@needs(VIEWER)
def list_versions(client: Client, flow: Flow) -> dict[str, Any]:
    """List the versions of a flow, newest first."""
    found = client.deployments.list(flow)
    if not found:
        client.deployments.get(flow)  # raises NotFound, which lists the deployed flows
    return {"items": [one.to_dict() for one in reversed(found)]}


@router.get("/{flow}/versions/{version}", response_model=models.Version, responses=problems(404))
@needs(VIEWER)
def get_version(
    client: Client,
    flow: Flow,
    version: Annotated[str, Path(description="Version such as `v3`, or a tag.", examples=["v1"])],
) -> dict[str, Any]:
    """Return one version of a flow."""
    return client.deployments.get(f"{flow}@{version}").to_dict()


@router.put(
    "/{flow}/tags/{tag}", response_model=models.Version, responses=problems(404, 409, 413, 415)
)
@needs(OPERATOR)
def move_tag(client: Client, flow: Flow, tag: Tag, body: models.TagMove) -> dict[str, Any]:
    """Move a tag to a version. Executions keep the version that they started with."""
    found = find(client.store, flow, version=body.version)
    return client.deployments.tag(f"{found.flow}@{found.version}", tag).to_dict()


@router.delete("/{flow}/tags/{tag}", status_code=204, responses=problems(404, 409))
@needs(OPERATOR)
def remove_tag(client: Client, flow: Flow, tag: Tag) -> None:
    """Remove a tag. Its version stays deployed."""
    client.deployments.untag(flow, tag)


@router.post(
    "/{flow}/invoke",
    response_model=models.Started,
    status_code=201,
    responses=problems(404, 409, 413, 415),
)
@needs(OPERATOR)
def invoke_flow(
    client: Client,
    flow: Flow,
    body: models.Invoke,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=200,
            description="Any text. A repeated request with the same key, flow and inputs starts "
            "no second execution, even if the tag has moved.",
        ),
    ] = None,
    dispatcher: Dispatching = None,
) -> dict[str, Any]:
    """Start an execution of a version on its target. Default: the version of the tag `default`."""
    found = find(client.store, flow, tag=body.tag, version=body.version)
    means = means_of(dispatcher)
    done = invoke(
        client.store, found, body.inputs, key=idempotency_key, means=means, tags=body.tags
    )
    return started(client.store, done.handle.exec_id, done.run)
