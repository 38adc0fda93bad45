"""Deployed flows: numbered versions that never change, and tags that move.

Versions and moves of tags are numbered from 1 to n without gaps, and each is created once. Exact
reads alone therefore find the newest number; a list only suggests where to start. A writer that
loses the race for a number reads the winner's record. It takes the next number if the winner wrote
something else.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from kitaru.errors import NotFound, RecordCorrupt, UsageError
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.version import VERSION
from kitaru.wire import canonical, keys
from kitaru.wire.actors import actor
from kitaru.wire.names import check_name, suggestion
from kitaru.wire.plan import LOCK
from kitaru.wire.records import DeploymentRecord, TagRecord
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now

DEFAULT_TAG = "default"
# Its digest identifies the whole build, because it contains the digests of the other files.
_VERSION = re.compile(r"v([1-9][0-9]{0,7})")

R = TypeVar("R", DeploymentRecord, TagRecord)


class Deployment(Struct):
    """One version of a deployed flow. `tags` are the tags that currently point to it.

    `tag` is the tag in the name that `Deployments.get` was called with, empty for a number.
    """

    flow: str
    number: int
    target: str
    digest: str
    files: Mapping[str, str]
    deployed_at: str
    kitaru_version: str
    tags: tuple[str, ...]
    tag: str = ""

    @property
    def version(self) -> str:
        """The version number in displayed form, such as `v3`."""
        return f"v{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that the commands print for a version."""
        return {
            "flow": self.flow,
            "version": self.version,
            "target": self.target,
            "digest": self.digest,
            "deployed_at": self.deployed_at,
            "kitaru": self.kitaru_version,
            "tags": [*self.tags],
        }


class Deployments:
    """The deployed flows of one store; every method may raise EnvironmentFailure.

    Example:
        client = KitaruClient()
        client.deployments.get("review@stable").version
        client.deployments.tag("review@v3", "stable")
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._record_store = RecordStore(store)

    def flows(self) -> builtins.list[str]:
        """Return the sorted names of the deployed flows."""
        prefix = keys.deployments()
        found = (key.removeprefix(prefix) for key in self._store.list(prefix))
        return sorted({name.partition("/")[0] for name in found})

    def list(self, flow: str) -> builtins.list[Deployment]:
        """Return the versions of a flow, the oldest first; empty if the flow is not deployed."""
        tags = self.tags(flow)
        return [_deployment(record, tags) for record in self._versions(flow)]

    def tags(self, flow: str) -> dict[str, int]:
        """Return the version that each tag of a flow points to, by tag."""
        prefix = keys.tags(check_name("flow", flow))
        names = {key.removeprefix(prefix).partition("/")[0] for key in self._store.list(prefix)}
        newest = {name: self._newest(flow, name) for name in sorted(names)}
        return {
            name: record.version for name, record in newest.items() if record and record.version
        }

    def get(self, name: str) -> Deployment:
        """Return the version for a name: `FLOW` (with the tag `default`), `FLOW@TAG` or `FLOW@vN`.

        Raises:
            NotFound: the flow is not deployed, or has no such version or tag.
            UsageError: the name is not valid.
        """
        flow, wanted = parse(name)
        number = wanted if isinstance(wanted, int) else self._tagged(flow, wanted)
        key = keys.deployment(flow, number)
        record = self._record_store.read(DeploymentRecord, key) if number else None
        if record is None:
            raise self._unknown(flow, wanted)
        found = _deployment(record, self.tags(flow))
        return found if isinstance(wanted, int) else replace(found, tag=wanted)

    def read(self, deployment: Deployment, name: str) -> bytes:
        """Return a file of a version with its digest verified; raise RecordCorrupt otherwise."""
        digest = deployment.files.get(name, "")
        data = self._store.get(keys.deployed_file(digest)) if digest else None
        if data is None or canonical.sha256(data) != digest:
            raise RecordCorrupt(
                f"{name} of {deployment.flow} {deployment.version} is missing in "
                f"{self._store.url}, or is not what was deployed.",
                help="Restore it from a backup, or deploy the flow again as a new version.",
            )
        return data

    def add(self, flow: str, target: str, files: Mapping[str, bytes]) -> Deployment:
        """Store a build as the next version of a flow, unless the build is a version already.

        `files` are the files of a build directory by name, including `lock.json`.
        """
        refuse_while_importing("client.deployments.add(…)")
        check_name("flow", flow)
        digests = {name: canonical.sha256(data) for name, data in sorted(files.items())}
        versions = self._versions(flow)
        held = next((one for one in versions if one.digest == digests[LOCK]), None)
        if held is None:
            objects = [(keys.deployed_file(digests[n]), data) for n, data in files.items()]
            self._store.create_all(objects)
        number = len(versions)
        while held is None:
            number += 1
            record = DeploymentRecord(flow, number, target, digests[LOCK], digests, now(), VERSION)
            found = self._record_store.write(keys.deployment(flow, number), record)
            held = found if found.digest == record.digest else None
        return _deployment(held, self.tags(flow))

    def tag(self, name: str, tag: str) -> Deployment:
        """Point a tag to a version, in one step. `name` has the same form as for `get`.

        Raises the errors of `get`, and UsageError for a tag that looks like a version.
        """
        refuse_while_importing("client.deployments.tag(…)")
        deployment = self.get(name)
        flow, version = deployment.flow, deployment.number
        newest = self._newest(flow, check_tag(tag))
        with audited(self._store, "tag", f"{tag} {deployment.version}", flow=flow):
            while newest is None or newest.version != version:
                number = 1 if newest is None else newest.number + 1
                record = TagRecord(flow, tag, number, version, now(), actor())
                newest = self._record_store.write(keys.tag(flow, tag, number), record)
        return self.get(f"{flow}@{deployment.version}")

    def untag(self, flow: str, tag: str) -> None:
        """Remove a tag. Existing executions keep their version.

        Raises:
            NotFound: the flow has no such tag.
            UsageError: the tag is `default`, which can only be moved.
        """
        refuse_while_importing("client.deployments.untag(…)")
        if check_tag(tag) == DEFAULT_TAG:
            raise UsageError(
                f"The tag {DEFAULT_TAG} cannot be taken away: `invoke` needs it.",
                help=f"Move it: kitaru flow tag {flow}@v2 {DEFAULT_TAG}",
            )
        with audited(self._store, "untag", tag, flow=check_name("flow", flow)):
            while (newest := self._newest(flow, tag)) and newest.version:
                record = TagRecord(flow, tag, newest.number + 1, 0, now(), actor())
                if self._record_store.try_create(keys.tag(flow, tag, record.number), record):
                    return
            raise self._unknown(flow, tag)

    def _versions(self, flow: str) -> builtins.list[DeploymentRecord]:
        def place(number: int) -> str:
            return keys.deployment(check_name("flow", flow), number)

        listed = len(self._store.list(place(0).removesuffix("00000000")))
        places = [place(number) for number in range(1, listed + 1)]
        found = self._record_store.read_all(DeploymentRecord, places)
        while (
            more := self._record_store.read(DeploymentRecord, place(len(found) + 1))
        ) is not None:
            found.append(more)
        return found

    def _newest(self, flow: str, tag: str) -> TagRecord | None:
        moves = self._store.list(keys.tag(flow, tag, 0).removesuffix("00000000"))
        number = int(moves[-1].rpartition("/")[2]) if moves else 0
        newest = self._record_store.read(TagRecord, moves[-1]) if moves else None
        while (
            more := self._record_store.read(TagRecord, keys.tag(flow, tag, number + 1))
        ) is not None:
            newest, number = more, number + 1
        return newest

    def _tagged(self, flow: str, tag: str) -> int:
        newest = self._newest(flow, tag)
        return 0 if newest is None else newest.version

    def _unknown(self, flow: str, wanted: str | int) -> NotFound:
        versions = self._versions(flow)
        if not versions:
            flows = self.flows()
            listed = f"Deployed are: {', '.join(flows)}"
            return NotFound(
                f"The flow {flow} is not deployed in {self._store.url}.",
                help=suggestion(flow, flows, listed) if flows else "kitaru deploy FLOW --target T",
            )
        tags = [f"{tag} (v{number})" for tag, number in self.tags(flow).items()]
        what = f"version v{wanted}" if isinstance(wanted, int) else f"tag {wanted}"
        newest = f"v1 to v{len(versions)}" if len(versions) > 1 else "v1"
        listed = f"It has the versions {newest}, and the tags {', '.join(tags) or '(none)'}."
        return NotFound(
            f"The flow {flow} has no {what}.",
            help=suggestion(str(wanted), self.tags(flow), listed),
        )


def parse(name: str) -> tuple[str, str | int]:
    """Return the flow in `FLOW`, `FLOW@TAG` or `FLOW@vN`, and the tag or the number."""
    flow, at, wanted = name.partition("@")
    if at and not wanted:
        raise UsageError(f"{name!a} names no version.", help="FLOW, FLOW@TAG or FLOW@v3")
    version = _VERSION.fullmatch(wanted)
    named = int(version[1]) if version else check_tag(wanted or DEFAULT_TAG)
    return check_name("flow", flow), named


def check_tag(tag: str) -> str:
    """Return a valid tag; raise UsageError otherwise."""
    if re.fullmatch(r"v[0-9]+", tag):
        raise UsageError(f"{tag} cannot be a tag: it reads as a version.", help="such as `stable`")
    return check_name("tag", tag)


def _deployment(record: DeploymentRecord, tags: Mapping[str, int]) -> Deployment:
    return Deployment(
        flow=record.flow,
        number=record.number,
        target=record.target,
        digest=record.digest,
        files=record.files,
        deployed_at=record.at,
        kitaru_version=record.kitaru_version,
        tags=tuple(sorted(tag for tag, number in tags.items() if number == record.number)),
    )
