"""`kitaru flow`: list and show deployed flows, and move their tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import completion, options
from kitaru.cli.clients import client_of, reader_of
from kitaru.cli.commands.events import trigger_rows
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, label
from kitaru.cli.render.execution import moment
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.runtime.executions.deployments import Deployment


@click.group(cls=Group, short_help="List and show deployed flows, and move tags.")
def flow() -> None:
    """List and show deployed flows, and move their tags. Versions never change."""


@flow.command("list")
@options.store
@options.as_json
@options.pass_output
def list_flows(output: Output, store: str | None) -> None:
    """List the deployed flows, each with its newest version and its tags."""
    deployments = reader_of(store).deployments
    versions = {name: deployments.list(name) for name in deployments.flows()}
    items = [
        {"flow": name, "newest": found[-1].version, "tags": _tags(found)}
        for name, found in versions.items()
    ]
    if output.as_json:
        output.document({"items": items, "count": len(items)})
        return
    rows = [(name, found[-1].version, _tagged(_tags(found))) for name, found in versions.items()]
    output.table(rows, empty="no flow is deployed")


@flow.command()
@click.argument("name", metavar="FLOW[@TAG|@vN]", shell_complete=completion.deployed_flows)
@options.store
@options.as_json
@options.pass_output
def show(output: Output, name: str, store: str | None) -> None:
    """Show all versions of a flow, newest first, or one version."""
    client = reader_of(store)
    deployments = client.deployments
    one = deployments.get(name) if "@" in name else None
    found = [one] if one else deployments.list(name)[::-1]
    if not found:
        deployments.get(name)  # raises NotFound, which lists the deployed flows
    if output.as_json:
        items = [version.to_dict() for version in found]
        triggers = [trigger.to_dict() for trigger in client.events.triggers(found[0].flow)]
        output.document({"items": items, "count": len(items), "triggers": triggers})
        return
    output.table([_row(version) for version in found])
    for trigger in client.events.triggers(found[0].flow):
        for what, events in trigger_rows(trigger):
            output.say(f"v{trigger.version} {what} {events}")


@flow.command()
@click.argument("name", metavar="FLOW@VERSION", shell_complete=completion.deployed_flows)
@click.argument("tag", metavar="TAG")
@click.option("--version", metavar="N", help="Number of the version, if FLOW names none.")
@options.exclusive
@options.store
@options.as_json
@options.pass_output
def tag(output: Output, name: str, tag: str, version: str | None, store: str | None) -> None:
    """Move a tag to a version. Executions keep the version that they started with."""
    from kitaru.ops.invoke import find

    if "@" not in name and version is None:
        raise UsageError("The version is missing.", help=f"kitaru flow tag {name}@v1 {tag}")
    client = client_of(store)
    found = find(client.store, name, version=version)
    moved = client.deployments.tag(f"{found.flow}@{found.version}", tag)
    if output.as_json:
        output.document({"tag": tag, **moved.to_dict()})
        return
    output.say(f"{label(tag, 'green')} of {moved.flow} is {moved.version}")


@flow.command()
@click.argument("name", metavar="FLOW", shell_complete=completion.deployed_flows)
@click.argument("tag", metavar="TAG")
@options.store
@options.as_json
@options.pass_output
def untag(output: Output, name: str, tag: str, store: str | None) -> None:
    """Remove a tag. Its version stays deployed."""
    client_of(store).deployments.untag(name, tag)
    if output.as_json:
        output.document({"flow": name, "tag": tag, "version": None})
        return
    output.say(f"{tag} of {name} points at no version")


def _tags(versions: list[Deployment]) -> dict[str, str]:
    return {tag: one.version for one in versions for tag in one.tags}


def _tagged(tags: dict[str, str]) -> str:
    return ", ".join(f"{tag} {version}" for tag, version in sorted(tags.items()))


def _row(version: Deployment) -> tuple[str, ...]:
    when = moment(version.deployed_at)
    digest = version.digest.removeprefix("sha256:")[:12]
    return version.flow, version.version, version.target, when, digest, ", ".join(version.tags)
