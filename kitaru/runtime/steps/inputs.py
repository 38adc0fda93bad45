"""Find the flow's inputs in a first step: in arguments, the environment or the store.

Engines pass numbers as doubles, and limit the length of strings. `kitaru invoke` stores an input
that would not survive this in the store, and passes its key as the run's parameter `kitaru_inputs`.
A user who starts a run on the service's own page may enter an integer beyond 2**53. The step cannot
recover the exact integer and refuses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from kitaru.errors import EnvironmentFailure, InputError
from kitaru.stores import Store
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import Parameter, Plan, is_rounded
from kitaru.wire.structs import Struct, field


class InputSource(Struct):
    """The sources of the inputs; a later source takes precedence over an earlier one.

    `texts` by name are from the arguments, percent-encoded if `encoded`. `prefix` plus a name is an
    environment variable. `key` is the store key of a JSON object with the texts that the other
    sources cannot carry.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    key: str = ""
    encoded: bool = False

    def read(self, plan: Plan, store: Store) -> dict[str, str]:
        """Return the text of each input.

        Raises:
            EnvironmentFailure: the inputs are missing from the store or damaged.
            InputError: an integer was passed in a way that may have rounded it.
        """
        names = [parameter.name for parameter in plan.parameters if self.prefix]
        variables = {n: os.environ[self.prefix + n] for n in names if self.prefix + n in os.environ}
        stored = _stored(store, self.key) if self.key else {}
        carried = {**self._decoded(), **variables}
        for parameter in plan.parameters:
            if parameter.name not in stored:
                _check_exact(plan, parameter, carried.get(parameter.name, ""))
        return {**carried, **stored}

    def _decoded(self) -> Mapping[str, str]:
        if not self.encoded:
            return self.texts
        from urllib.parse import unquote

        return {name: unquote(text) for name, text in self.texts.items()}


def _check_exact(plan: Plan, parameter: Parameter, text: str) -> None:
    """Refuse an integer that a number parameter may have rounded."""
    is_number = parameter.required or parameter.has_literal_default
    if parameter.type != "int" or not is_number:
        return
    try:
        value = json.loads(text)
    except ValueError:
        return
    if is_rounded(int(value) if isinstance(value, float) and value.is_integer() else value):
        raise InputError(
            f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} arrived as {text}, "
            "and may have been another integer: engines hand numbers on as doubles, which are "
            "exact below 2**53.",
            help="Start the run with `kitaru invoke`: the store carries larger integers.",
        )


def _stored(store: Store, key: str) -> dict[str, str]:
    data = store.get(key)
    if data is None or keys.inputs(sha256(data)) != key:
        raise EnvironmentFailure(
            f"The inputs at {key} in {store.url} are {'missing' if data is None else 'changed'}.",
            help="Put them there again, and start the pipeline again.",
        )
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise EnvironmentFailure(f"The object {key} in {store.url} contains no inputs.")
    return found
