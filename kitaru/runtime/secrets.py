"""Find the value of a secret: in the environment, by a reference, or in this user's files.

A secret has the name of its environment variable. Plans and configurations contain a reference,
never a value: `aws:NAME`, `gcp:projects/P/secrets/S`, `azure:VAULT/NAME`, `file:/PATH`, `env:NAME`.
With `k8s:SECRET/KEY` the target sets the environment variable in the pods of the steps.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import config, toml_files
from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.wire import redaction
from kitaru.wire.names import check_name

if TYPE_CHECKING:
    from kitaru.wire.plan import Plan

_FOLDER = "secrets"
_plan_references: dict[str, str] = {}
_values: dict[str, str] = {}


def use_plan_references(references: Mapping[str, str]) -> None:
    """Use the references of the plan, unless this process configures its own."""
    _plan_references.clear()
    _plan_references.update(references)


def find(name: str) -> str | None:
    """Return the value of a secret, or None if it is not found. See `kitaru.secret`."""
    value = os.environ.get(check_name("secret", name)) or _referred(name) or _kept(name)
    if value:
        redaction.register_value(name, value)
    return value or None


def register_local(plan: Plan) -> None:
    """Hide the values of a plan's secrets that are on this machine, without a network request.

    Also hide variables of the environment that have the name of a secret and look random.
    """
    models = (model.get("secret") for model in plan.models.values() if isinstance(model, dict))
    redaction.register_environment()
    for name in {*plan.secrets, *filter(None, models)}:
        scheme = references().get(name, "").partition(":")[0]
        if name in os.environ or scheme not in _SDKS:
            # A file that cannot be read here cannot expose its secret here.
            with suppress(Exception):
                find(name)


def references() -> dict[str, str]:
    """Return the active references by name: the plan's, then those configured here."""
    return {**_plan_references, **config.secrets()}


def check_reference(name: str, reference: str) -> str:
    """Return a valid reference. Otherwise raise UsageError without showing the reference."""
    scheme, colon, place = reference.partition(":")
    if colon and place and scheme in _READERS:
        return reference
    raise UsageError(
        f"The reference of the secret {name} is not valid: it starts with none of "
        f"{', '.join(f'{known}:' for known in _READERS)}",
        help=f"A reference says where the value is, and is never the value: {name} = "
        '"aws:prod/service"',
    )


def keep(name: str, value: str) -> None:
    """Store a secret for this user in a file with owner-only permissions."""
    folder = folder_of_secrets()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    staged = folder / f".{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(staged, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(folder / check_name("secret", name))
    finally:
        staged.unlink(missing_ok=True)


def forget(name: str) -> bool:
    """Delete a stored secret of this user; return whether it existed."""
    try:
        (folder_of_secrets() / check_name("secret", name)).unlink()
    except FileNotFoundError:
        return False
    return True


def kept() -> list[str]:
    """Return the names of this user's stored secrets."""
    folder = folder_of_secrets()
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(path.name for path in found if not path.name.startswith("."))


def folder_of_secrets() -> Path:
    """Return the directory of this user's secrets, next to the user's configuration."""
    return toml_files.user_file().with_name(_FOLDER)


def _referred(name: str) -> str | None:
    reference = references().get(name)
    if reference is None:
        return None
    if reference not in _values:
        scheme, _, place = check_reference(name, reference).partition(":")
        _values[reference] = _read(name, scheme, place)
    return _values[reference]


def _read(name: str, scheme: str, place: str) -> str:
    try:
        return _READERS[scheme](place)
    except ImportError as error:
        raise EnvironmentFailure(
            f"The secret {name} is kept by {scheme}, whose SDK is not installed.",
            help=f"pip install {_SDKS[scheme]}",
        ) from error
    except Exception as error:
        raise EnvironmentFailure(
            f"The secret {name} cannot be read from {scheme}:{place}: "
            f"{type(error).__name__}: {redaction.redacted(str(error))}"
        ) from None


def _kept(name: str) -> str | None:
    path = folder_of_secrets() / name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise EnvironmentFailure(
                    f"The file of the secret {name} can be read by others (mode {mode:o}).",
                    help=f"chmod 600 {path}",
                )
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFailure(
            f"The secret {name} cannot be read from {path}: {error.strerror}"
        ) from error


def _from_kubernetes(_: str) -> str:
    """Return nothing: the value is in the variable of a pod, or in a file of this user."""
    return ""


def _from_environment(place: str) -> str:
    return os.environ[place]


def _from_file(place: str) -> str:
    return Path(place).read_text(encoding="utf-8").removesuffix("\n")


def _from_aws(place: str) -> str:
    """Read from AWS Secrets Manager, by name or ARN."""
    client = importlib.import_module("boto3").client("secretsmanager")
    return str(client.get_secret_value(SecretId=place)["SecretString"])


def _from_gcp(place: str) -> str:
    """Read from Google Secret Manager; not tested against the service."""
    sdk: Any = importlib.import_module("google.cloud.secretmanager")
    name = place if "/versions/" in place else f"{place}/versions/latest"
    found = sdk.SecretManagerServiceClient().access_secret_version(name=name)
    return str(found.payload.data.decode("utf-8"))


def _from_azure(place: str) -> str:
    """Read `VAULT/NAME` from Azure Key Vault; not tested against the service."""
    sdk: Any = importlib.import_module("azure.keyvault.secrets")
    identity: Any = importlib.import_module("azure.identity")
    vault, _, name = place.partition("/")
    url = f"https://{vault}.vault.azure.net"
    client = sdk.SecretClient(vault_url=url, credential=identity.DefaultAzureCredential())
    return str(client.get_secret(name).value)


_READERS: Mapping[str, Callable[[str], str]] = {
    "env": _from_environment,
    "k8s": _from_kubernetes,
    "file": _from_file,
    "aws": _from_aws,
    "gcp": _from_gcp,
    "azure": _from_azure,
}
_SDKS = {
    "aws": "'boto3>=1.35'",
    "gcp": "google-cloud-secret-manager",
    "azure": "azure-keyvault-secrets 'azure-identity>=1.15'",
}
