"""Run in its own environment: report how the SDK of Vertex AI reads documents.

A job has the `path` of a document and the `arguments` of a run. An answer is {"problems",
"parameters"}. Nothing is sent anywhere.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

from google.cloud import aiplatform  # noqa: E402, F401 - imported once, for all requests
from serving import product, serve  # noqa: E402


def answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        made = product("vertex").job(Path(job["path"]), job["arguments"])
    except Exception as error:
        return {"problems": [repr(error)], "parameters": {}}
    config = made.to_dict()["runtimeConfig"]
    # What `kitaru verify --with-sdk` says, with samples for what a run must be given.
    problems = [*product("vertex").problems(Path(job["path"]))]
    return {"problems": problems, "parameters": config.get("parameterValues", {})}


if __name__ == "__main__":
    serve(answer)
