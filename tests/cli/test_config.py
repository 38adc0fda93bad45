"""Each layer of configuration wins over the ones below it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru import config, toml_files
from kitaru.errors import UsageError


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("STORE", "CACHE", "RETRIES", "IMAGE", "DEFAULT_MODEL", "MODELS", "ENVIRONMENT"):
        monkeypatch.delenv(f"KITARU_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    yield
    config.configure(store=None, cache=None, retries=None, models=None)


def user(text: str) -> None:
    path = toml_files.user_file()
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_each_layer_wins_over_the_ones_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(**given: Any) -> tuple[int, str]:
        found = config.setting("retries", **given)
        return found.value, found.origin

    assert now() == (0, "default")
    user("retries = 1\n")
    assert now() == (1, "user configuration")
    (tmp_path / "pyproject.toml").write_text("[tool.kitaru]\nretries = 2\n")
    assert now() == (2, "pyproject.toml")
    monkeypatch.setenv("KITARU_RETRIES", "3")
    assert now() == (3, "KITARU_RETRIES")
    config.configure(retries=4)
    assert now() == (4, "kitaru.configure()")
    assert now(decorator=5) == (5, "decorator")
    assert now(decorator=5, argument=0) == (0, "argument")


def test_false_is_a_value_and_not_an_absence() -> None:
    config.configure(cache=True)
    assert config.setting("cache", decorator=False).value is False


def test_pyproject_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.kitaru]\nstore = "sqlite:state/"\nrequirements = "pins.txt"\n'
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert config.setting("store").value == f"sqlite:{tmp_path}/state/"
    assert config.project_settings()["requirements"] == f"{tmp_path}/pins.txt"


def test_aliases_merge_per_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.kitaru.models]\nfast = "p/a"\nsmart = "p/b"\n')
    monkeypatch.setenv("KITARU_MODELS", '{"fast": "q/c"}')
    assert config.models() == {"fast": "q/c", "smart": "p/b"}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KITARU_CACHE", "perhaps"),
        ("KITARU_RETRIES", "-1"),
        ("KITARU_RETRIES", "many"),
        ("KITARU_MODELS", "[1]"),
        ("KITARU_MODELS", "{"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UsageError, match=variable):
        config.setting(variable.removeprefix("KITARU_").lower())


@pytest.mark.parametrize("table", ["[tool.kitaru]", "[tool.kitaru.stacks.prod]"])
def test_a_project_names_no_folder_of_compiled_results(table: str, tmp_path: Path) -> None:
    """It could contain forged analyses of its own modules: their keys depend on the text alone."""
    project = tmp_path / "pyproject.toml"
    project.write_text(f'{table}\ncompile_cache = "cache"\n')
    with pytest.raises(UsageError, match="compile_cache can only be off"):
        config.compile_cache("analyses")
    project.write_text(f'{table}\ncompile_cache = "off"\n')
    config.compile_cache("analyses")


@pytest.mark.parametrize(
    "text", ["[tool.kitaru\n", "[tool.kitaru]\nspeed = 3\n", "[tool]\nkitaru = 1\n"]
)
def test_a_wrong_pyproject_is_refused_by_path(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        config.setting("store")


def test_configure_takes_all_or_nothing() -> None:
    with pytest.raises(UsageError, match="retries"):
        config.configure(store="sqlite:x", retries=-1)
    assert config.setting("store").origin == "default"


def test_a_user_without_a_home_has_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a cluster starts containers: with a number that no file of users contains.
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name)

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert toml_files.user_file() == Path("/.config/kitaru/config.toml")
    assert config.setting("retries").value == 0
