"""Decides where a first step finds the flow's inputs: its arguments, its environment, the store."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from kitaru.errors import EnvironmentFailure
from kitaru.stores import Store
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import Plan
from kitaru.wire.structs import Struct, field


class Given(Struct):
    """How the inputs travelled; a later place wins over an earlier one.

    `texts` by name stood in the arguments, percent-encoded where `encoded`. `prefix` and a name
    make a variable of the environment. `key` is where the store holds one JSON object of texts:
    those too long for the others.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    key: str = ""
    encoded: bool = False

    def read(self, plan: Plan, store: Store) -> dict[str, str]:
        """Return the text of each input; raise EnvironmentFailure when the store has lost them."""
        names = [parameter.name for parameter in plan.parameters if self.prefix]
        variables = {n: os.environ[self.prefix + n] for n in names if self.prefix + n in os.environ}
        stored = _stored(store, self.key) if self.key else {}
        return {**self._decoded(), **variables, **stored}

    def _decoded(self) -> Mapping[str, str]:
        if not self.encoded:
            return self.texts
        from urllib.parse import unquote

        return {name: unquote(text) for name, text in self.texts.items()}


def _stored(store: Store, key: str) -> dict[str, str]:
    data = store.get(key)
    if data is None or keys.inputs(sha256(data)) != key:
        raise EnvironmentFailure(
            f"The inputs at {key} in {store.url} are {'missing' if data is None else 'changed'}.",
            help="Put them there again, and start the pipeline again.",
        )
    found: dict[str, str] = json.loads(data)
    return found
