"""The Dockerfile, the compose file and the units of systemd, and the service as they start it."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.project.conftest import tracked
from tests.project.test_offered_commands import wrong

from .conftest import DEPLOY, ROOT, command, tool

DOCKERFILE = ROOT / "Dockerfile"
UNITS = DEPLOY / "systemd"
INSTALLED = "/opt/kitaru/bin/kitaru"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines) if name
    ]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run(
        [tool("service-files", "hadolint"), "--no-color", str(DOCKERFILE)],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_starts_the_service_without_rights() -> None:
    found = dict(instructions())
    assert [name for name, _ in instructions()].count("FROM") == 2
    assert found["USER"] == "10001:10001"
    words = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
    assert wrong(shlex.join(words)) == ""
    check = json.loads(found["HEALTHCHECK"].partition("CMD")[2])
    assert check[0] == "python"
    assert f"127.0.0.1:{found['EXPOSE']}/healthz" in check[2]


def in_context(path: str) -> bool:
    """Return whether a file enters the image, by the rules of .dockerignore that are used there."""
    is_in = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line.startswith("#"):
            continue
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatch(part, pattern[3:]) for part in path.split("/"))
        else:
            matches = fnmatch.fnmatch(path.split("/")[0], pattern)
        is_in = line.startswith("!") if matches else is_in
    return is_in


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the first stage of the image copies."""
    folder = tmp_path_factory.mktemp("context")
    for path in tracked():
        name = path.relative_to(ROOT)
        if in_context(str(name)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
    assert {one.name for one in folder.iterdir()} >= {"kitaru", "compiler", "constraints.txt"}
    assert not {one.name for one in folder.iterdir()} & {"tests", "website", ".git", ".github"}
    return folder


@pytest.fixture(scope="module")
def image(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made by the first stage's instruction, with this one's dependencies.

    Without a network, pip gets a wheel that is built here from the same files.
    """
    folder = tmp_path_factory.mktemp("image")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=context, capture_output=True, check=True)
    [wheel] = folder.glob("*.whl")
    [line] = [rest for name, rest in instructions() if name == "RUN" and "venv" in rest]
    for written, used in (
        ("/opt/kitaru", str(folder / "kitaru")),
        ("python -m", f"{sys.executable} -m"),
        (" install ", " install --no-deps --no-index "),
        ('".[${EXTRAS}]"', str(wheel)),
    ):
        assert written in line
        line = line.replace(written, used)
    subprocess.run(["sh", "-euc", line], cwd=context, capture_output=True, check=True)
    folder /= "kitaru"
    [site] = folder.glob("lib/python*/site-packages")
    [dependencies] = [path for path in sys.path if path.endswith("site-packages")][:1]
    # A .pth file in a folder that is named in a .pth file is ignored: not the checkout itself.
    (site / "dependencies.pth").write_text(dependencies + "\n", encoding="utf-8")
    return folder


def test_the_image_contains_what_the_wheel_contains(image: Path) -> None:
    [site] = image.glob("lib/python*/site-packages")
    for package, source in (
        ("kitaru", "kitaru"),
        ("kitaru_compiler", "compiler/kitaru_compiler"),
        ("kitaru_targets", "targets/kitaru_targets"),
        ("kitaru_templates", "templates/kitaru_templates"),
    ):
        expected = {path.relative_to(ROOT / source) for path in tracked(source)}
        installed = {path.relative_to(site / package) for path in (site / package).rglob("*")}
        assert expected <= installed
    # Nothing could be compiled later: the file system is read-only.
    assert list((site / "kitaru" / "__pycache__").glob("__init__.*.pyc"))


def test_the_service_of_the_image_writes_to_its_folders_only(image: Path, tmp_path: Path) -> None:
    before = snapshot(image)
    environ = {
        "PATH": f"{image}/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "KITARU_STORE": f"sqlite:{tmp_path}/kitaru.db",
        "KITARU_TOKEN": "sesame",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    words = ["kitaru", *json.loads(dict(instructions())["CMD"]), "--port=0", "--allow-host=service"]
    with subprocess.Popen(
        [str(image / "bin" / "kitaru"), *words[1:]], cwd=image, env=environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip().rpartition(":")[2]
            for path in ("/healthz", "/readyz"):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as found:
                    assert found.status == 200
            process.terminate()
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        finally:
            process.kill()
    assert snapshot(image) == before
    assert (tmp_path / "kitaru.db").exists()


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return found


def schema() -> jsonschema_rs.Validator:
    package = Path(tool("service-files", "../node_modules/dclint/schemas/compose.schema.json"))
    return jsonschema_rs.validator_for(json.loads(package.read_text(encoding="utf-8")))


def test_the_compose_file_fits_the_schema() -> None:
    schema().validate(compose())
    wrong_file = compose()
    wrong_file["services"]["service"]["readonly"] = True
    assert not schema().is_valid(wrong_file)


def test_the_compose_file_starts_the_image_without_rights() -> None:
    [service] = compose()["services"].values()
    assert wrong(shlex.join(["kitaru", *service["command"]])) == ""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    port = dict(instructions())["EXPOSE"]
    # Only this machine: the service speaks plain HTTP.
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    # Without a token, nothing starts.
    assert service["environment"]["KITARU_TOKEN"].startswith("${KITARU_TOKEN:?")
    assert (DEPLOY / service["build"]["context"] / "Dockerfile").resolve() == DOCKERFILE


def units(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.service"), *folder.glob("*.timer")])


def test_units_start_commands_of_kitaru() -> None:
    starts = [
        line.partition("=")[2]
        for path in units(UNITS)
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("ExecStart=")
    ]
    assert len(starts) == 2
    for line in starts:
        assert line.startswith(f"{INSTALLED} ")
        assert wrong(line.replace(INSTALLED, "kitaru")) == ""
    for path in UNITS.glob("*.timer"):
        assert path.with_suffix(".service").exists()


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    # A fresh machine, such as a container, may have no systemd.
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    for path in units(tmp_path):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(INSTALLED, str(command())), encoding="utf-8")
    line = [program, "verify", *map(str, units(tmp_path))]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / "kitaru-.service.d" / "common.conf").write_text("[Service]\nProtectHom=yes\n")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert "ProtectHom" in done.stderr
