"""The libraries whose programs `kitaru migrate` rewrites."""

from __future__ import annotations

from typing import Literal

Library = Literal["dbos", "inngest", "prefect", "temporal", "zenml"]
