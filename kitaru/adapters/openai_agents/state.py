"""The state of a run (`context=`), which function tools may change.

A recorded tool does not run again, so what it changed is recorded with its result. Each call gets a
state of its own, in which the fields that are data are copies. Its changes reach the state of the
run when its result does, live and in a replay alike.
"""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from kitaru.errors import UsageError

_PLAIN = (str, bytes, bool, int, float, complex, type)


class CallState:
    """The state of a run as one tool call sees it."""

    def __init__(self, state: Any, tool: str) -> None:
        self._state, self._tool = state, tool
        self._before = _data(state)
        self.own = state
        if self._before:
            self.own = copy.copy(state)
            for name in self._before:
                _set(self.own, name, copy.deepcopy(_fields(state)[name]))

    def changes(self) -> dict[str, Any]:
        """Return what the call has changed: the new values, and the names of removed fields."""
        now, values = _data(self.own), _fields(self.own)
        changed = [[name, values[name]] for name in now if now[name] != self._before.get(name)]
        return {"set": changed, "removed": [name for name in self._before if name not in values]}

    def apply(self, changes: dict[str, Any]) -> None:
        """Change the state of the run as the call has changed its own.

        Raises:
            UsageError: another call of the same time has changed the same field.
        """
        now = _data(self._state)
        for name in (*(name for name, _ in changes["set"]), *changes["removed"]):
            if now.get(name) != self._before.get(name):
                raise UsageError(
                    f"The tool {self._tool} changed {name!r} of the run's context, and another "
                    "tool changed it at the same time.",
                    help="Let one tool change it, or turn parallel calls off: "
                    "ModelSettings(parallel_tool_calls=False). A tool marked with @flow_tool "
                    "changes the context itself, and its code runs again after a resume.",
                )
        for name, value in changes["set"]:
            _set(self._state, name, value)
        for name in changes["removed"]:
            if isinstance(self._state, dict):
                del self._state[name]
            else:
                delattr(self._state, name)


def _fields(state: Any) -> dict[Any, Any]:
    if isinstance(state, dict):
        return state
    if state is None or isinstance(state, _PLAIN):
        return {}
    if hasattr(state, "__dict__"):
        return dict(vars(state))
    if is_dataclass(state):
        return {one.name: getattr(state, one.name) for one in fields(state)}
    return {}


def _data(state: Any) -> dict[Any, bytes]:
    """Return the fields that are data, as JSON. Others, such as a client, are left out."""
    found = {}
    for name, value in _fields(state).items():
        try:
            found[name] = to_json(value)
        except (PydanticSerializationError, ValueError, RecursionError):
            continue
    return found


def _set(state: Any, name: Any, value: Any) -> None:
    if isinstance(state, dict):
        state[name] = value
    else:
        # The class may check or forbid assignments, which the tool has already made.
        object.__setattr__(state, name, value)
