"""Run in its own environment: report how Hera's models of Argo's objects read documents.

A job has the `path` of a document. An answer is {"problems"}. The models drop unknown fields, so a
document that is different after reading and writing has some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hera.workflows.models import CronWorkflow, Workflow, WorkflowTemplate
from serving import serve

MODELS = {
    "CronWorkflow": CronWorkflow,
    "WorkflowTemplate": WorkflowTemplate,
    "Workflow": Workflow,
}


def main() -> None:
    serve(answer)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    document, *_ = yaml.safe_load_all(Path(job["path"]).read_text())
    try:
        read = MODELS[document["kind"]](**document)
        dumped = yaml.safe_load(read.json(exclude_none=True, exclude_unset=True, by_alias=True))
    except Exception as error:
        return {"problems": [repr(error)]}
    return {"problems": [] if dumped == document else list(different(document, dumped))}


def different(one: Any, other: Any, place: str = "") -> Any:
    """Yield the places at which a value was lost or changed."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from different(one.get(key), other.get(key), f"{place}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from different(*pair, f"{place}/{index}")
    elif one != other:
        yield f"{place}: {one!r} became {other!r}"


if __name__ == "__main__":
    main()
