"""A dry run's steps do not find what only the checkout has."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from kitaru.runtime.steps.modules import add_root, leave_checkouts


class _EditableFinder:
    """What setuptools puts on `sys.meta_path` for a package in editable mode."""

    __module__ = "__editable___mine_1_0_finder"


def test_folders_in_editable_mode_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout, packages = tmp_path / "src", tmp_path / "site-packages"
    for folder in (checkout, packages):
        folder.mkdir()
        monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, _EditableFinder])
    leave_checkouts([])
    assert str(checkout) not in sys.path and str(packages) in sys.path
    assert _EditableFinder not in sys.meta_path
    assert str(Path(importlib.metadata.__file__).parents[2]) in sys.path


def test_what_a_step_requires_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "lib" / "src"
    checkout.mkdir(parents=True)
    info = tmp_path / "site-packages" / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(f'{{"url": "{checkout.parent.as_uri()}"}}')
    monkeypatch.setattr(sys, "path", [*sys.path, str(info.parent), str(checkout)])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, _EditableFinder])
    leave_checkouts(["mine==1.0", "absent==2"])
    assert str(checkout) in sys.path and _EditableFinder in sys.meta_path


def test_the_standard_library_comes_before_the_import_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path, "/site-packages"])
    add_root(tmp_path)
    library = str(Path(importlib.metadata.__file__).parents[2])
    assert sys.path.index(library) < sys.path.index(str(tmp_path))
    assert sys.path.index(str(tmp_path)) < sys.path.index("/site-packages")
    assert sys.path.count(str(tmp_path)) == 1
