"""Find errors in a flow without importing or running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitaru.ops import build_cache
from kitaru.ops.flow_ref import Location
from kitaru.wire import disk

if TYPE_CHECKING:
    from kitaru_compiler.diagnostics.model import Diagnostic


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check.

    `findings` name files relative to the working directory, and `sources` are their texts. `data`
    contains the reason for each file that would be bundled with the modules.
    """

    location: Location
    findings: tuple[Diagnostic, ...]
    sources: dict[str, str]
    data: Mapping[str, str]

    def is_fatal(self, *, strict: bool = False) -> bool:
        """Return whether findings prevent a compilation: errors do, with `strict` all findings."""
        from kitaru.ops.findings import is_fatal

        return is_fatal(self.findings, strict=strict)


def check(location: Location) -> Checked:
    """Check a flow, or all flows of a file; nothing is imported, written or run.

    Raises:
        SourceError: the file is not valid Python, or does not contain the flow.

    Example:
        [finding.code for finding in check(locate("review.py")).findings]
    """
    key = build_cache.key("check", repr(location))
    stored = build_cache.load(key)
    if stored is not None:
        findings = build_cache.findings_of(stored)
        return Checked(location, findings, stored.values["sources"], stored.values["data"])
    with disk.recorded() as answers:
        found = _check(location)
    values = build_cache.with_findings(found.findings, found.sources)
    build_cache.store(key, answers, build_cache.Stored({**values, "data": dict(found.data)}))
    return found


def _check(location: Location) -> Checked:
    from kitaru_compiler import check as find

    from kitaru.ops.findings import from_here, named_from_here

    with named_from_here(location):
        found = find(location.path, location.flow, location.module)
    findings, sources = from_here(found.findings, found.sources, found.base)
    return Checked(location, findings, sources, found.data)
