"""The offline model: it repeats the prompt, in the shape of the requested answer."""

from __future__ import annotations

import json
from typing import Any

from kitaru.runtime.llm.models import mock_response
from kitaru.runtime.schema.example import sample

_SHOWN = 200


def offline_text(asked: str, name: str, schema: dict[str, Any] | None) -> str:
    """Return a deterministic answer to a message; it states that no model was called.

    With a `schema`, the answer is an example of it. If a mock response is set, it is the answer.
    """
    if (mock := mock_response()) is not None:
        return mock
    shown = " ".join(asked.split())
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    text = f'[kitaru offline model: no model is configured for "{name}"] It was asked: {shown}'
    return text if schema is None else json.dumps(sample(schema, text))
