"""Decides what `kitaru flow` says of deployed flows, and how a tag moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.output import Output, label, table
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.runtime.executions.deployments import Deployment


@click.group(short_help="List and show deployed flows, and move tags.")
def flow() -> None:
    """The flows that are deployed: versions that never change, and tags that move."""


@flow.command("list")
@options.store
@options.as_json
@options.pass_output
def list_flows(output: Output, store: str | None) -> None:
    """List the deployed flows, each with its newest version and its tags."""
    deployments = client_of(store).deployments
    versions = {name: deployments.list(name) for name in deployments.flows()}
    items = [
        {"flow": name, "newest": found[-1].version, "tags": _tags(found)}
        for name, found in versions.items()
    ]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    rows = [(name, found[-1].version, _tagged(_tags(found))) for name, found in versions.items()]
    for line in table(rows) if rows else ["no flow is deployed"]:
        output.say(line)


@flow.command()
@click.argument("name", metavar="FLOW[@TAG|@vN]")
@options.store
@options.as_json
@options.pass_output
def show(output: Output, name: str, store: str | None) -> None:
    """Show the versions of a flow, newest first; or one of them."""
    deployments = client_of(store).deployments
    one = deployments.get(name) if "@" in name else None
    found = [one] if one else deployments.list(name)[::-1]
    if not found:
        deployments.get(name)  # says that it is not deployed, and which flows are
    if output.as_json:
        items = [version.to_dict() for version in found]
        output.document({"items": items, "count": len(items)})
        return
    for line in table([_row(version) for version in found]):
        output.say(line)


@flow.command()
@click.argument("name", metavar="FLOW@VERSION")
@click.argument("tag", metavar="TAG")
@options.store
@options.as_json
@options.pass_output
def tag(output: Output, name: str, tag: str, store: str | None) -> None:
    """Let a tag point at a version from now on; executions keep the version they began with."""
    if "@" not in name:
        raise UsageError("Which version is not said.", help=f"kitaru flow tag {name}@v1 {tag}")
    version = client_of(store).deployments.tag(name, tag)
    if output.as_json:
        output.document({"tag": tag, **version.to_dict()})
        return
    output.say(f"{label(tag, 'green')} of {version.flow} is {version.version}")


def _tags(versions: list[Deployment]) -> dict[str, str]:
    return {tag: one.version for one in versions for tag in one.tags}


def _tagged(tags: dict[str, str]) -> str:
    return ", ".join(f"{tag} {version}" for tag, version in sorted(tags.items()))


def _row(version: Deployment) -> tuple[str, ...]:
    when = f"{version.deployed_at[:19].replace('T', ' ')} UTC"
    digest = version.digest.removeprefix("sha256:")[:12]
    return version.flow, version.version, version.target, when, digest, ", ".join(version.tags)
