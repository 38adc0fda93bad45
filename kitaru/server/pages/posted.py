"""The fields of a form that a browser sent."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, Request

from kitaru.errors import UsageError
from kitaru.server.pages.forms import Posted

MEDIA_TYPE = "application/x-www-form-urlencoded"
# A list of 500 items with a few fields each.
_MOST_FIELDS = 10_000


async def _fields(request: Request) -> Posted:
    body = await request.body()
    try:
        text = body.decode("ascii")
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise UsageError(f"The form that was sent cannot be read: {error}.") from error


Fields = Annotated[Posted, Depends(_fields)]
