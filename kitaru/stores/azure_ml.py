"""Credentials of a job on Azure ML, for a store in Azure Blob Storage.

A job has a managed identity behind `MSI_ENDPOINT`, with a secret for requests. This is an older
protocol than that of virtual machines, and obstore does not know it. The fields are those of
Microsoft's own library azure-identity. It was tested on loopback, and never on the service.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kitaru.errors import StoreDenied

_RESOURCE = "https://storage.azure.com/"
_SECONDS = 30
_MOST_BYTES = 1_000_000
# Credentials in the environment come first.
_OTHERS = (
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY"),
    *("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN", "AZURE_CLIENT_SECRET"),
    *("AZURE_STORAGE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_STORAGE_USE_EMULATOR"),
)


def provider() -> Callable[[], Mapping[str, Any]] | None:
    """Return a function that requests a token; None outside of a job of Azure ML.

    Raises StoreDenied, from the function, if the job's identity has no token.

    Example:
        AzureStore("container", credential_provider=provider())
    """
    place, secret = os.environ.get("MSI_ENDPOINT"), os.environ.get("MSI_SECRET")
    if not place or not secret or any(os.environ.get(name) for name in _OTHERS):
        return None

    def token() -> Mapping[str, Any]:
        try:
            found = _answer(place, secret)
            expires = datetime.fromtimestamp(int(found["expires_on"]), UTC)
            return {"token": str(found["access_token"]), "expires_at": expires}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreDenied(
                f"Azure ML has no token for the identity of this job: {error}",
                help="Give the compute an identity with the role Storage Blob Data Contributor.",
            ) from None

    return token


def _answer(place: str, secret: str) -> Any:
    """Return what the endpoint of the identity answers."""
    # Only a job of Azure ML needs these modules.
    import json
    from urllib.parse import urlencode
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Follow no redirect, which would receive the secret."""

    asked = {"api-version": "2017-09-01", "resource": _RESOURCE}
    if client := os.environ.get("DEFAULT_IDENTITY_CLIENT_ID"):
        asked["clientid"] = client
    request = Request(f"{place}?{urlencode(asked)}", headers={"secret": secret})
    with build_opener(NoRedirect).open(request, timeout=_SECONDS) as response:
        return json.loads(response.read(_MOST_BYTES))
