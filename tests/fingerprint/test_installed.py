"""A package from outside counts by its installed version, and only where it is reached."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from kitaru.wire import installed
from kitaru.wire.fingerprint import fingerprint, fingerprint_parts
from kitaru.wire.installed import version_of

SOURCE = """\
import json
import sys
import kitaru
import tables.deep as deep
from other import thing

def uses(x): return deep.read(json.dumps(x), kitaru.__name__, sys.argv)
def uses_not(x): return thing(x)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for installed packages, and nothing else on the path."""
    monkeypatch.setattr("sys.path", [str(tmp_path / "absent"), str(tmp_path)])
    installed.version_of.cache_clear()
    yield tmp_path
    installed.version_of.cache_clear()
    installed._infos.cache_clear()


def install(site: Path, name: str, version: str, **files: str) -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    for file, text in files.items():
        (info / {"top_level": "top_level.txt"}.get(file, file)).write_text(text)


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("pandas", "pandas 2.2.3"),
        ("typing_extensions", "typing-extensions 4.1"),
        ("yaml", "pyyaml 6.0.2"),
        ("_yaml", "pyyaml 6.0.2"),
        ("sklearn", "scikit-learn 1.5"),
        ("six", "six-in-one 3"),
        ("google", "google-auth 2.1, google-cloud-storage 2.3"),
        ("learn", ""),
        ("absent", ""),
    ],
)
def test_the_distribution_of_a_package(package: str, expected: str, site: Path) -> None:
    install(site, "pandas", "2.2.3", RECORD="")
    install(site, "typing_extensions", "4.1")
    install(site, "PyYAML", "6.0.2", top_level="_yaml\nyaml\n")
    install(site, "scikit_learn", "1.5", RECORD="x,,\nsklearn/__init__.py,sha256=a,1\n")
    install(site, "six_in_one", "3", RECORD="six.py,sha256=a,1\n")
    install(site, "google_cloud_storage", "2.3", RECORD="google/cloud/storage/a.py,,\n")
    install(site, "google_auth", "2.1", top_level="google\n")
    assert version_of(package) == expected


def test_the_first_on_the_path_counts(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = site / "other"
    other.mkdir()
    monkeypatch.setattr("sys.path", [str(site), str(other)])
    install(other, "pandas", "1.0")
    install(site, "pandas", "2.0")
    assert version_of("pandas") == "pandas 2.0"


def test_it_agrees_with_the_standard_library_here() -> None:
    for package in ("click", "pydantic", "yaml", "jinja2"):
        (name, *_) = metadata.packages_distributions()[package]
        assert version_of(package) == f"{name.lower()} {metadata.version(name)}"


def test_an_upgrade_changes_what_uses_it_and_nothing_else() -> None:
    def of(name: str, **versions: str) -> str:
        return fingerprint({"m": SOURCE}.get, "m", name, lambda package: versions[package])

    assert of("uses", tables="1") == of("uses", tables="1")
    assert of("uses", tables="1") != of("uses", tables="2")
    assert of("uses_not", other="1") != of("uses_not", other="2")


def test_only_packages_that_are_reached_are_looked_up() -> None:
    asked: list[str] = []

    def version(package: str) -> str:
        asked.append(package)
        return "1"

    parts = fingerprint_parts({"m": SOURCE}.get, "m", "uses", version)
    assert asked == ["tables"]
    assert parts and {p.name: p.version for p in parts.packages} == {
        "json": "", "kitaru": "", "sys": "", "tables": "1",
    }  # fmt: skip
