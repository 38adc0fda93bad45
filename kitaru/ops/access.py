"""Roles: who may do what, on which flows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.structs import Struct

VIEWER, APPROVER, OPERATOR, ADMIN = "viewer", "approver", "operator", "admin"
ROLES = (VIEWER, APPROVER, OPERATOR, ADMIN)
"""Each role may do what the roles before it may.

A viewer reads. An approver answers waits, and may end an execution instead of answering; it runs no
code. An operator invokes, resumes, retries, replays and cancels, moves tags and writes to memory.
An admin manages tokens and reads the audit log.
"""

_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,100}", re.ASCII)


class Grant(Struct):
    """A role on some flows; without `flows`, on all of them.

    `flows` are names, or patterns such as `billing-*`.
    """

    role: str
    flows: tuple[str, ...] = ()

    @staticmethod
    def of(role: str, flows: Iterable[str] = ()) -> Grant:
        """Return a grant; raise UsageError if the role or a pattern is not valid."""
        if role not in ROLES:
            raise UsageError(f"{role!a} is not a role.", help=f"Use one of: {', '.join(ROLES)}")
        for flow in (patterns := tuple(flows)):
            if not _PATTERN.fullmatch(flow):
                raise UsageError(
                    f"{flow!a} is neither the name of a flow nor a pattern.",
                    help="such as review or billing-*",
                )
        return Grant(role, patterns)

    @staticmethod
    def parse(text: str) -> Grant:
        """Return the grant of a text such as `admin`, or `approver of review, billing-*`."""
        role, of, flows = text.partition(" of ")
        return Grant.of(role.strip(), [flow.strip() for flow in flows.split(",")] if of else ())

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> Grant:
        """Return the grant that `to_dict` wrote."""
        return Grant.of(str(document["role"]), map(str, document["flows"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the grant as JSON."""
        return {"role": self.role, "flows": [*self.flows]}

    def allows(self, role: str) -> bool:
        """Return whether the grant includes a role."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def __str__(self) -> str:
        return f"{self.role} of {', '.join(self.flows)}" if self.flows else self.role


class Principal(Struct):
    """Somebody who uses a store through a service: `name` is what records name."""

    name: str
    grants: tuple[Grant, ...]

    def flows(self, role: str) -> Sequence[str] | None:
        """Return the patterns of the flows on which it has a role; None for all flows."""
        found = [grant for grant in self.grants if grant.allows(role)]
        if any(not grant.flows for grant in found):
            return None
        return [flow for grant in found for flow in grant.flows]

    def may(self, role: str, flow: str | None = None) -> bool:
        """Return whether it has a role on a flow; without `flow`, on any flow."""
        flows = self.flows(role)
        if flows is None:
            return True
        return matches(flow, flows) if flow is not None else bool(flows)


def matches(flow: str, patterns: Iterable[str]) -> bool:
    """Return whether a flow's name matches one of the patterns."""
    return any(fnmatchcase(flow, pattern) for pattern in patterns)
