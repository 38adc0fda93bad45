"""The bill of materials of a build is valid, complete, and the same for the same build."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from kitaru_targets.sbom import sbom

from kitaru import KitaruClient
from kitaru.errors import StateError
from tests.cli.conftest import Kitaru

from .test_verification import compiled

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cyclonedx") is None, reason="cyclonedx-python-lib is not installed"
)
DIGEST = "0" * 64


def test_a_bill_lists_what_an_image_contains(tmp_path: Path) -> None:
    # The import takes seconds, and every worker imports the module.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    (tmp_path / "requirements.txt").write_text(f"small==1.0 --hash=sha256:{DIGEST}\nbare==2.0\n")
    made = compiled(tmp_path, image=f"registry.example/agents:1@sha256:{DIGEST}")
    text = sbom(made.directory)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert document["metadata"]["component"]["version"] == made.lock.digest
    parts = {part["name"]: part for part in document["components"]}
    assert parts["small"]["purl"] == "pkg:pypi/small@1.0"
    (files,) = parts["small"]["externalReferences"]
    assert files["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert "externalReferences" not in parts["bare"]
    assert parts["flow.py"]["type"] == "file"
    assert parts["registry.example/agents:1"]["version"] == f"sha256:{DIGEST}"
    assert {"obstore", "typing-extensions", "kitaru", "python:3.11-slim"} <= parts.keys()
    assert "purl" not in parts["kitaru"]
    (flow,) = (one for one in document["dependencies"] if one["ref"] == "flow:counting")
    assert len(flow["dependsOn"]) == len(parts)


def test_the_same_build_has_the_same_bill(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    KitaruClient().verify(made.directory, sbom=tmp_path / "bill.json")
    assert (tmp_path / "bill.json").read_text() == sbom(made.directory)
    made.document.write_text("x")
    with pytest.raises(StateError, match=r"pipeline\.yaml changed"):
        sbom(made.directory)


def test_the_command_writes_a_bill(tmp_path: Path) -> None:
    kitaru = Kitaru(tmp_path)
    made = compiled(tmp_path)
    written = tmp_path / "bill.json"
    kitaru("verify", str(made.directory), "--sbom", str(written))
    assert written.read_text() == sbom(made.directory)
    lost = str(tmp_path / "no" / "bill.json")
    assert "Cannot write" in kitaru("verify", str(made.directory), "--sbom", lost, code=2).err
