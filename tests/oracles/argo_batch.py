"""Run in its own environment: report how Hera's models of Argo's objects read documents.

A job has the `path` of a document. An answer is {"problems"}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving import product, serve


def answer(job: dict[str, Any]) -> dict[str, Any]:
    return {"problems": [*product("argo").problems(Path(job["path"]))]}


if __name__ == "__main__":
    product("argo")
    serve(answer)
