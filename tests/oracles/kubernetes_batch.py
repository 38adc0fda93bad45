"""Kubernetes' own schemas and client: what they say of documents, and what our calls do with it."""

import os
import sys
from pathlib import Path

import yaml
from kubernetes import client
from kubernetes.config import kube_config
from serving import serve

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in ("compiler", "targets", "templates"))]

from kitaru_targets.kubernetes import submit  # noqa: E402
from kitaru_targets.kubernetes.sdk import of_text  # noqa: E402

from kitaru.errors import KitaruError  # noqa: E402


def answer(job: dict) -> dict:
    if "text" in job:
        return {"problems": [*problems(job["text"])]}
    # The client read it when it was imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = os.environ["KUBECONFIG"]
    try:
        if "ended" in job:
            return {"ended": submit.has_ended(*job["ended"])}
        return {"run": submit.submit(*job["submit"]).run_id}
    except KitaruError as error:
        return {"error": type(error).__name__, "message": error.message, "help": error.help}


def problems(text: str):
    yield from of_text(text)
    for document in yaml.safe_load_all(text):
        if document.get("kind") == "Job":
            try:
                client.V1Job.from_dict(document)
            except Exception as error:
                yield f"{type(error).__name__}: {error}"[:500]


if __name__ == "__main__":
    serve(answer)
