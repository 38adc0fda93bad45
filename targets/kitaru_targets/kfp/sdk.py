"""Read a document with the SDK of Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import yaml


def problems(path: Path) -> Iterator[str]:
    """Yield what the SDK says of a document: its schema, and its loader of components."""
    for read in (_parsed, _loaded):
        try:
            read(path)
        except Exception as error:
            yield f"{read.__name__.strip('_')}: {error!r}"


def _parsed(path: Path) -> None:
    spec, *_ = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    schema = import_module("kfp.pipeline_spec.pipeline_spec_pb2")
    parse = import_module("google.protobuf.json_format").ParseDict
    parse(spec, schema.PipelineSpec())
    parse(spec["deploymentSpec"], schema.PipelineDeploymentConfig())


def _loaded(path: Path) -> None:
    import_module("kfp.components").load_component_from_file(str(path))
