"""Run in its own environment: report how the SDK of Vertex AI reads documents.

Reads a list of jobs as JSON from standard input: `path` of a document and the `arguments` of a run.
Writes a list of {"problems", "parameters"} as JSON. Nothing is sent anywhere.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    warnings.simplefilter("ignore")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    aiplatform.init(project="project", location="europe-west4", credentials=AnonymousCredentials())
    answers = [answer(aiplatform, job) for job in json.load(sys.stdin)]
    Path(sys.argv[1]).write_text(json.dumps(answers))


def answer(aiplatform: Any, job: dict[str, Any]) -> dict[str, Any]:
    try:
        made = aiplatform.PipelineJob(
            display_name="job",
            template_path=job["path"],
            parameter_values=job["arguments"],
            pipeline_root="gs://bucket/root",
            enable_caching=False,
        )
    except Exception as error:
        return {"problems": [repr(error)], "parameters": {}}
    config = made.to_dict()["runtimeConfig"]
    return {"problems": [], "parameters": config.get("parameterValues", {})}


if __name__ == "__main__":
    main()
