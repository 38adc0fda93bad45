"""Which executions a list, or a command for many executions, selects.

    flow=review status=failed older_than=2h input.customer=acme tag.team=billing

All conditions must hold. Flow, status and start are read from the index and the state, the other
facts from one or two objects of each remaining execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime.journal.states import FINAL
from kitaru.wire.records import Summary
from kitaru.wire.structs import Struct, field, replace


class Where(Struct):
    """The conditions of a selection; what is not set selects everything.

    Attributes:
        flow: name of the flow.
        status: the current status.
        tag: the tag that an execution was invoked by.
        text: occurs, in any case, in its title, in the beginning of its inputs, or in what it is up
            to.
        target: where it runs, `local` for this machine.
        version: its deployed version, such as `v3`.
        since, until: earliest and latest start, as recorded moments.
        parent: the execution that started it as a child.
        is_open: whether only those that are neither completed nor cancelled are selected.
        is_source: whether only those that can be replayed are selected: no replays, none running.
        inputs: inputs by path, such as `customer` or `order.id`, as text or as JSON.
        tags: tags of `kitaru.tag` and `--tag NAME=VALUE`, by name.
    """

    flow: str | None = None
    status: str | None = None
    tag: str | None = None
    text: str = ""
    target: str | None = None
    version: str | None = None
    since: str = ""
    until: str = ""
    parent: str | None = None
    is_open: bool = False
    is_source: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def narrowed(self, **named: Any) -> Where:
        """Return the selection with more conditions; None and "" set nothing.

        Raises:
            UsageError: a condition is set already.
        """
        given = {name: value for name, value in named.items() if value not in (None, "")}
        for name, value in given.items():
            if getattr(self, name) not in (None, "", value):
                raise UsageError(f"The filter sets {name} twice; all conditions must hold.")
        return replace(self, **given)

    def allows(self, status: str) -> bool:
        """Return whether a status is selected."""
        return self.status in (None, status) and not (
            (self.is_open and status in FINAL) or (self.is_source and status == "running")
        )

    @property
    def needs_summary(self) -> bool:
        """Whether the summary of an execution decides."""
        named = (self.tag, self.target, self.version, self.parent)
        is_named = any(one is not None for one in named)
        return is_named or self.is_source or bool(self.text or self.tags)

    @property
    def counts_everything(self) -> bool:
        """Whether the index alone decides."""
        return self == Where(flow=self.flow)

    def fits(self, found: Summary) -> bool:
        """Return whether a summary meets the conditions."""
        facts = (
            (self.tag, found.tag),
            (self.target, found.target or "local"),
            (self.version, found.version),
            (self.parent, found.parent),
        )
        if any(asked not in (None, fact) for asked, fact in facts):
            return False
        if self.is_source and found.source:
            return False
        if any(found.tags.get(name) != value for name, value in self.tags.items()):
            return False
        text = f"{found.title}\n{found.excerpt}\n{found.up[2]}".casefold()
        return self.text.casefold() in text

    def fits_inputs(self, inputs: Any) -> bool:
        """Return whether the inputs of an execution, as JSON, meet the conditions."""
        return all(_is_equal(_at(inputs, path), value) for path, value in self.inputs.items())


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


_ABSENT = object()


def _is_equal(found: Any, asked: Any) -> bool:
    """Return whether a value is the text that was asked for, or the JSON that the text means."""
    if found is _ABSENT:
        return False
    text, value = asked if isinstance(asked, tuple) else (asked, asked)
    if isinstance(found, str):
        return bool(found == text)
    return type(found) is type(value) and bool(found == value)
