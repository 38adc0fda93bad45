"""Deployed flows: their versions, tags and graph, and a form that starts one."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru.errors import InputError, KitaruError, NotFound
from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.ops.dispatch import means_of
from kitaru.ops.invoke import find, invoke
from kitaru.ops.submit import plan_of
from kitaru.runtime.executions.deployments import Deployment
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.forms import ABSENT, Form
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page
from kitaru.stores.base import Store
from kitaru.wire.plan import Parameter

router = APIRouter(include_in_schema=False)

_RECENT = 10
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


@router.get("/flows")
@needs(VIEWER)
def list_flows(request: Request, client: Client) -> Response:
    """List the deployed flows."""
    flows = [client.deployments.list(name) for name in client.deployments.flows()]
    return page(
        request, "flows.html", flows=[versions for versions in flows if versions],
        schedules=client.schedules.list(),
    )  # fmt: skip


@router.get("/flows/{flow}")
@needs(VIEWER)
def show_flow(
    request: Request, client: Client, flow: str, version: Annotated[str, Query()] = ""
) -> Response:
    """Show a flow: its versions, its graph, and the form that starts it."""
    versions = client.deployments.list(flow)
    if not versions:
        # Executions of flows that were never deployed link here as well.
        return _show_undeployed(request, client, flow)
    chosen = find(client.store, flow, version=version) if version else _default(versions)
    return _show(request, client, versions, chosen)


@router.post("/flows/{flow}")
@needs(OPERATOR)
def change_flow(request: Request, client: Client, flow: str, posted: Fields) -> Response:
    """Start a version of a flow, move or remove one of its tags, or change a schedule."""
    version = posted.get("version", [""])[0]
    match posted.get("act"):
        case ["tag"]:
            tag = posted.get("tag", [""])[0].strip()
            client.deployments.tag(f"{flow}@{version}", tag)
            return go(request.url.path)
        case ["untag"]:
            client.deployments.untag(flow, posted.get("tag", [""])[0])
            return go(request.url.path)
        case ["pause" | "resume" | "delete" as act]:
            getattr(client.schedules, act)(posted.get("schedule", [""])[0])
            return go(request.url.path)
        case ["trigger"]:
            client.schedules.trigger(posted.get("schedule", [""])[0])
            if request.app.state.dispatcher is not None:
                request.app.state.dispatcher.wake()
            return go(request.url.path)
    chosen = find(client.store, flow, version=version)
    form = Form(_schema(client.store, chosen), posted)
    versions = client.deployments.list(flow)
    if form.value is ABSENT:
        return _show(request, client, versions, chosen, form, 200 if form.is_changed else 422)
    # The form contains an id, so that a form that is sent twice starts one execution.
    exec_id = posted.get("start", [""])[0]
    try:
        done = invoke(
            client.store,
            chosen,
            form.value,
            exec_id=_checked(exec_id),
            means=means_of(request.app.state.dispatcher),
        )
    except InputError as error:
        form.refuse(error.message)
        return _show(request, client, versions, chosen, form, 422)
    return go(f"/executions/{done.handle.exec_id}")


@router.get("/flows/{flow}/{version}/graph.svg")
@needs(VIEWER)
def show_graph(client: Client, flow: str, version: str) -> Response:
    """Return the graph of a version as an image."""
    from kitaru_targets import bundle
    from kitaru_targets.graph import graph_of, svg

    chosen = find(client.store, flow, version=version)
    read = client.deployments.read
    plan = plan_of(client.store, chosen)
    steps = read(chosen, "steps.py").decode("utf-8")
    files = bundle.project(bundle.contents(read(chosen, "bundle.zip")))
    sources = {plan.file: files[plan.file].decode("utf-8", "replace")} if plan.file in files else {}
    text = svg(graph_of(plan, steps, sources))
    headers = {
        "cache-control": "private, max-age=86400",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    return Response(text, headers=headers, media_type="image/svg+xml")


def _show(
    request: Request, client: Client, versions: list[Deployment], chosen: Deployment,
    form: Form | None = None, status: int = 200,
) -> Response:  # fmt: skip
    trouble = ""
    parameters: tuple[Parameter, ...] = ()
    doc = ""
    try:
        plan = plan_of(client.store, chosen)
        parameters, doc = plan.parameters, plan.doc
        form = form or Form(_schema(client.store, chosen))
    except KitaruError as error:
        trouble = error.message
    return page(
        request, "flow.html", status,
        flow=chosen.flow, versions=list(reversed(versions)), chosen=chosen, doc=doc, form=form,
        has_inputs=bool(parameters), trouble=trouble, start=secrets.token_hex(16),
        recent=_recent(client, chosen.flow), schedules=_schedules(client, chosen.flow),
    )  # fmt: skip


def _show_undeployed(request: Request, client: Client, flow: str) -> Response:
    recent = _recent(client, flow)
    if not recent:
        raise NotFound(f"There is no flow {flow} in {client.store.url}.")
    return page(
        request, "flow.html",
        flow=flow, versions=[], chosen=None, doc="", form=None, has_inputs=False, trouble="",
        start="", recent=recent, schedules=[],
    )  # fmt: skip


def _recent(client: Client, flow: str) -> list[Any]:
    return client.executions.page(flow=flow, limit=_RECENT, counts=False).items


def _schedules(client: Client, flow: str) -> list[Any]:
    """Return the schedules of a flow, each with its next ticks and last runs."""
    return [client.schedules.get(one.id) for one in client.schedules.list(flow=flow)]


def _default(versions: list[Deployment]) -> Deployment:
    tagged = [one for one in versions if "default" in one.tags]
    return tagged[0] if tagged else versions[-1]


def _schema(store: Store, version: Deployment) -> dict[str, Any]:
    """Return the JSON schema of a version's inputs."""
    parameters = plan_of(store, version).parameters
    return {
        "type": "object",
        "properties": {one.name: _property(one) for one in parameters},
        "required": [one.name for one in parameters if one.required],
        "additionalProperties": False,
    }


def _property(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"title": parameter.name}
    if parameter.type in _TYPES:
        found["type"] = _TYPES[parameter.type]
    else:
        found["description"] = parameter.annotation
    if parameter.has_literal_default:
        found["default"] = parameter.default
        if parameter.default is None and "type" in found:
            found["type"] = [found["type"], "null"]
    return found


def _checked(exec_id: str) -> str | None:
    is_ours = len(exec_id) == 32 and all(one in "0123456789abcdef" for one in exec_id)
    return exec_id if is_ours else None
