"""Stand-in for a container in the SDK's local mode: a process on this machine."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import boto3

FOLDER = "/opt/ml/processing"


class Process:
    """Stands in for the SDK's container: brings inputs, runs the command, takes outputs."""

    environment: ClassVar[dict[str, str]] = {}
    started: ClassVar[list[str]] = []

    def __init__(
        self,
        instance_type: str,
        instance_count: int,
        image: str,
        sagemaker_session: Any = None,
        container_entrypoint: list[str] | None = None,
        container_arguments: list[str] | None = None,
    ) -> None:
        self.instance_type, self.instance_count, self.image = instance_type, instance_count, image
        self.container_entrypoint = container_entrypoint or []
        self.container_arguments = container_arguments or []

    def process(
        self,
        processing_inputs: list[dict[str, Any]],
        processing_output_config: dict[str, Any],
        environment: dict[str, str],
        processing_job_name: str,
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for item in processing_inputs:
                self.bring(item["S3Input"]["S3Uri"], here(item["S3Input"]["LocalPath"], folder))
            for item in processing_output_config["Outputs"]:
                Path(here(item["S3Output"]["LocalPath"], folder)).mkdir(parents=True)
            command = [*self.container_entrypoint, *self.container_arguments]
            Process.started.append(command[command.index("--step") + 1])
            done = subprocess.run(
                [here(part, folder) for part in command],
                env={**self.environment, **environment},
                text=True,
                capture_output=True,
            )
            if done.returncode:
                raise RuntimeError(f"{processing_job_name}: {done.stdout}{done.stderr}")
            for item in processing_output_config["Outputs"]:
                self.take(here(item["S3Output"]["LocalPath"], folder), item["S3Output"]["S3Uri"])

    @staticmethod
    def bring(uri: str, folder: str) -> None:
        """Download every object that starts with the address, as the service does."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        client = boto3.client("s3")
        for item in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            below = item["Key"].removeprefix(prefix).strip("/") or prefix.rpartition("/")[2]
            file = Path(folder) / below
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, item["Key"], str(file))

    @staticmethod
    def take(folder: str, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        for file in Path(folder).iterdir():
            boto3.client("s3").upload_file(str(file), bucket, f"{prefix}/{file.name}")


def here(part: str, folder: str) -> str:
    return part.replace(FOLDER, folder, 1) if part.startswith(FOLDER) else part
