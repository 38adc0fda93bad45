"""Run in its own environment: report how the SDK of Vertex AI reads documents.

A job has the `path` of a document and the `arguments` of a run. An answer is {"problems",
"parameters"}. Nothing is sent anywhere.
"""

from __future__ import annotations

import warnings
from typing import Any

warnings.simplefilter("ignore")

from google.auth.credentials import AnonymousCredentials  # noqa: E402
from google.cloud import aiplatform  # noqa: E402
from serving import serve  # noqa: E402


def main() -> None:
    aiplatform.init(project="project", location="europe-west4", credentials=AnonymousCredentials())
    serve(answer)


def answer(job: dict[str, Any]) -> dict[str, Any]:
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
