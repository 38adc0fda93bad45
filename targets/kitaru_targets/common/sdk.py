"""Import a vendor's SDK, which only a submission needs and users install themselves."""

from __future__ import annotations

import importlib
from typing import Any

from kitaru.errors import EnvironmentFailure


def load(module: str, service: str, *packages: str) -> Any:
    """Return a module of an SDK.

    Args:
        module: full name, such as `google.cloud.aiplatform`.
        service: name of the service in the error, such as `Vertex`.
        packages: what to install, such as `boto3>=1.35`.

    Raises:
        EnvironmentFailure: the SDK is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentFailure(
            f"Submitting to {service} needs its SDK, which is not installed.",
            help=" ".join(["pip install", *(f"'{package}'" for package in packages)]),
        ) from error
