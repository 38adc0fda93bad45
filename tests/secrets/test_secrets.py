"""A secret is found by its name, and its value is recorded and shown nowhere."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import EnvironmentFailure, FlowError, NotFound, UsageError
from kitaru.runtime import secrets
from kitaru.stores import open_store
from kitaru.wire import redaction

NAME, VALUE = "SERVICE_KEY", "q7Zp2LxV9cWt4Rb8"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("KITARU_STORE", f"memory:{tmp_path.name}")
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.delenv("KITARU_SECRETS", raising=False)
    # This file, which is that of the flows, contains the value.
    monkeypatch.setenv("KITARU_SOURCE", "off")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    for name in ("_values", "_plan_references"):
        monkeypatch.setattr(secrets, name, {})
    yield


def stored() -> bytes:
    store = open_store()
    return b"".join(store.get(key) or b"" for key in store.list(""))


def test_the_environment_comes_before_a_reference_and_that_before_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match=f"kitaru secrets set {NAME}"):
        kitaru.secret(NAME)
    secrets.keep(NAME, "kept for the user")
    assert kitaru.secret(NAME) == "kept for the user"
    (tmp_path / "value").write_text("from the plan\n")
    secrets.use_plan_references({NAME: f"file:{tmp_path / 'value'}"})
    assert kitaru.secret(NAME) == "from the plan"
    (tmp_path / "pyproject.toml").write_text(f'[tool.kitaru.secrets]\n{NAME} = "env:OTHER"\n')
    monkeypatch.setenv("OTHER", "from a reference")
    assert kitaru.secret(NAME) == "from a reference"
    monkeypatch.setenv(NAME, "from the environment")
    assert kitaru.secret(NAME) == "from the environment"


def test_a_kept_secret_is_this_users_alone(tmp_path: Path) -> None:
    secrets.keep(NAME, VALUE)
    path = tmp_path / "xdg" / "kitaru" / "secrets" / NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(EnvironmentFailure, match="chmod 600"):
        kitaru.secret(NAME)
    path.unlink()
    path.symlink_to(tmp_path / "pyproject.toml")
    with pytest.raises(EnvironmentFailure, match="cannot be read"):
        kitaru.secret(NAME)
    assert secrets.kept() == [NAME]
    assert (secrets.forget(NAME), secrets.forget(NAME)) == (True, False)


@pytest.mark.parametrize("reference", ["plain", "aws:", "vault:x", VALUE])
def test_a_value_in_the_place_of_a_reference_is_not_repeated(reference: str) -> None:
    secrets.use_plan_references({NAME: reference})
    with pytest.raises(UsageError, match="starts with none") as raised:
        kitaru.secret(NAME)
    assert VALUE not in str(raised.value)


def google() -> dict[str, ModuleType]:
    def access(*, name: str) -> Any:
        assert name == "projects/p/secrets/s/versions/latest"
        return SimpleNamespace(payload=SimpleNamespace(data=VALUE.encode()))

    module = ModuleType("google.cloud.secretmanager")
    client = SimpleNamespace(access_secret_version=access)
    module.__dict__["SecretManagerServiceClient"] = lambda: client
    names = ("google", "google.cloud")
    return {**{n: ModuleType(n) for n in names}, module.__name__: module}


def azure() -> dict[str, ModuleType]:
    def client(*, vault_url: str, credential: Any) -> Any:
        assert (vault_url, credential) == ("https://v.vault.azure.net", "me")
        return SimpleNamespace(get_secret=lambda name: SimpleNamespace(value=VALUE))

    keeper, identity = ModuleType("azure.keyvault.secrets"), ModuleType("azure.identity")
    keeper.__dict__["SecretClient"] = client
    identity.__dict__["DefaultAzureCredential"] = lambda: "me"
    parents = {n: ModuleType(n) for n in ("azure", "azure.keyvault")}
    return {**parents, keeper.__name__: keeper, identity.__name__: identity}


@pytest.mark.parametrize(
    ("place", "fake"), [("gcp:projects/p/secrets/s", google), ("azure:v/n", azure)]
)
def test_the_other_keepers_are_asked_as_they_are_documented(
    place: str, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.use_plan_references({NAME: place})
    for name in fake():
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentFailure, match="not installed"):
        kitaru.secret(NAME)
    for name, module in fake().items():
        monkeypatch.setitem(sys.modules, name, module)
    assert kitaru.secret(NAME) == VALUE


@checkpoint
def returns() -> dict[str, str]:
    return {"header": f"Bearer {kitaru.secret(NAME)}"}


@checkpoint
def uses() -> int:
    return len(kitaru.secret(NAME))


@checkpoint
def leaks() -> None:
    error = ValueError(f"denied for {kitaru.secret(NAME)}", {"key": kitaru.secret(NAME)})
    error.add_note(f"with {kitaru.secret(NAME)}")
    raise error


@flow
def using() -> int:
    return uses()


@flow
def returning() -> Any:
    return returns()


@flow
def leaking() -> None:
    leaks()


@flow
def catching() -> str:
    try:
        leaks()
    except ValueError as error:
        return f"{error.args[0]} {uses()}"
    return ""


def test_a_value_that_is_used_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, VALUE)
    assert using.run().wait() == len(VALUE)
    assert VALUE.encode() not in stored()


def test_a_result_that_holds_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, VALUE)
    with pytest.raises(FlowError, match=f"the secret {NAME}") as raised:
        returning.run().wait()
    assert 'result["header"]' in str(raised.value) and VALUE not in str(raised.value)
    assert VALUE.encode() not in stored()


def test_a_failure_is_recorded_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, VALUE)
    with pytest.raises(FlowError) as raised:
        leaking.run().wait()
    assert "denied for ***" in str(raised.value) and VALUE not in str(raised.value)
    assert VALUE.encode() not in stored()


def test_the_flow_catches_on_a_replay_what_it_caught_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, VALUE)
    handle = catching.run()
    assert handle.wait() == "denied for *** 16"
    assert VALUE.encode() not in stored()
