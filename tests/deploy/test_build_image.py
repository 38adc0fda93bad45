"""`kitaru build`: which builder runs, with which arguments, and what a failure says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure, StateError, UsageError
from kitaru.ops.build_image import build_image
from tests.builders import DIGEST, Builders

FLOW = """\
from kitaru import checkpoint, flow


@checkpoint
def double(n: int) -> int:
    return n * 2


@flow
def doubling(n: int) -> int:
    return double(n)
"""
IMAGE = "registry.example.com:5000/team/flows:1"
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/flows:1"
GOOGLE = "europe-docker.pkg.dev/project/repository/flows:1"
AZURE = "team.azurecr.io/flows:1"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build-image")
    (folder / "doubling.py").write_text(FLOW, encoding="utf-8")
    client = KitaruClient(f"sqlite:{folder}/store.db")
    made = client.compile(
        str(folder / "doubling.py"), "kubeflow", directory=folder / "build",
        image=IMAGE, delivery="image",
    )  # fmt: skip
    return made.build.directory


@pytest.fixture
def builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builders:
    made = Builders(tmp_path / "bin")
    # Only the shell, so that no builder of this machine is found.
    for program in ("sh", "cat"):
        (made.folder / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(made.folder))
    return made


def test_docker_builds_and_pushes(compiled: Path, builders: Builders) -> None:
    builders.add("docker")
    lines: list[str] = []
    built = build_image(compiled, report=lines.append)
    assert built.pinned == f"registry.example.com:5000/team/flows@{DIGEST}"
    assert (built.builder, built.is_pushed, built.image) == ("docker", True, IMAGE)
    asked, *ran = builders.calls()
    assert asked[:2] == ["docker", "version"]
    context = str(compiled.resolve())
    assert ran == [
        ["docker", "build", "--platform", "linux/amd64", "--tag", IMAGE, context],
        ["docker", "push", IMAGE],
        ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", IMAGE],
    ]
    assert lines[:2] == ["doing build", "doing push"]
    # What the commands of the Dockerfile copy is there.
    for line in (compiled / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY "):
            assert (compiled / line.split()[1]).exists()


@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_podman_and_buildah_report_the_digest(
    builder: str, compiled: Path, builders: Builders
) -> None:
    builders.add("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    builders.add(builder)
    built = build_image(compiled, platform="linux/arm64")
    assert (built.builder, built.digest) == (builder, DIGEST)
    _, building, pushing = builders.calls()
    assert building[:4] == [builder, "build", "--platform", "linux/arm64"]
    assert pushing[:3] == [builder, "push", "--digestfile"]
    assert pushing[4:] == [IMAGE]


def test_without_push_there_is_no_digest(compiled: Path, builders: Builders) -> None:
    builders.add("podman")
    built = build_image(compiled, push=False)
    assert (built.digest, built.pinned, built.is_pushed) == (None, IMAGE, False)
    assert [call[1] for call in builders.calls()] == ["build"]


def test_google_builds_its_own_images(compiled: Path, builders: Builders) -> None:
    builders.add("gcloud")
    built = build_image(compiled, image=GOOGLE)
    assert built.pinned == f"europe-docker.pkg.dev/project/repository/flows@{DIGEST}"
    context = str(compiled.resolve())
    building, describing = builders.calls()
    assert building == ["gcloud", "builds", "submit", context, "--tag", GOOGLE]
    assert describing[1:5] == ["artifacts", "docker", "images", "describe"]


def test_azure_builds_its_own_images(compiled: Path, builders: Builders) -> None:
    builders.add("gcloud")
    builders.add("az")
    built = build_image(compiled, image=AZURE)
    assert (built.builder, built.digest) == ("az", DIGEST)
    building, showing = builders.calls()
    where = ["--registry", "team", "--image", "flows:1"]
    assert building[:7] == ["az", "acr", "build", *where]
    assert showing[:8] == ["az", "acr", "repository", "show", "--name", *where[1:]]
    with pytest.raises(UsageError, match="pushes what it builds"):
        build_image(compiled, image=AZURE, push=False)


def test_nothing_that_builds_is_an_error_that_lists_what_was_tried(
    compiled: Path, builders: Builders
) -> None:
    builders.add("docker", "echo 'Is the docker daemon running?' >&2; exit 1")
    builders.add("gcloud")
    with pytest.raises(EnvironmentFailure) as caught:
        build_image(compiled)
    for part in (
        "docker does not work: Is the docker daemon running?",
        "podman is not installed",
        "gcloud builds for its own registry only",
    ):
        assert part in caught.value.message
    assert "Install docker, podman or buildah" in str(caught.value.help)


@pytest.mark.parametrize(
    ("image", "said", "help"),
    [
        (ECR, "no basic auth credentials", "aws ecr get-login-password --region eu-central-1"),
        (ECR, "denied: Your authorization token has expired. Reauthenticate", "get-login-password"),
        (
            ECR,
            "name unknown: The repository with name 'flows' does not exist in the registry",
            "aws ecr create-repository --region eu-central-1 --repository-name flows",
        ),
        (
            GOOGLE,
            "denied: Unauthenticated request. Unauthenticated requests do not have permission",
            "gcloud auth configure-docker europe-docker.pkg.dev",
        ),
        (
            GOOGLE,
            'name unknown: Repository "repository" not found',
            "repositories create repository --project project --location europe",
        ),
        (AZURE, "unauthorized: authentication required, visit https://aka.ms/acr", "az acr login"),
        (IMAGE, "unauthorized: authentication required", "docker login registry.example.com:5000"),
        ("team/flows:1", "denied: requested access to the resource is denied", "docker login"),
    ],
)
def test_a_refused_push_says_how_to_get_access(
    image: str, said: str, help: str, compiled: Path, builders: Builders
) -> None:
    builders.add("docker", f"cat <<'END'\n{said}\nEND\n[ $1 != push ]\n")
    with pytest.raises(EnvironmentFailure) as caught:
        build_image(compiled, image=image, builder="docker")
    assert "docker push failed with exit code 1" in caught.value.message
    assert said in caught.value.message
    assert help in str(caught.value.help)


@pytest.mark.parametrize(
    ("said", "help"),
    [
        ("ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "Start"),
        ("permission denied while trying to connect to the Docker daemon socket", "Start Docker"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "above"),
    ],
)
def test_a_failed_build_shows_its_output(
    said: str, help: str, compiled: Path, builders: Builders
) -> None:
    builders.add("docker", f"echo '{said}' >&2; exit 17")
    with pytest.raises(EnvironmentFailure) as caught:
        build_image(compiled, builder="docker")
    assert f"docker build failed with exit code 17:\n  {said}" in caught.value.message
    assert help in str(caught.value.help)
    assert [call[1] for call in builders.calls()] == ["build"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": f"team/flows@{DIGEST}"}, "known only after it was built"),
        ({"image": "--privileged"}, "cannot be a container image"),
        ({"platform": "--network=host"}, "not a valid platform"),
        ({"builder": "kaniko"}, "Unknown builder 'kaniko'"),
        ({"builder": "az"}, "builds images of its own registry only"),
    ],
)
def test_wrong_options_run_nothing(
    options: dict[str, str], said: str, compiled: Path, builders: Builders
) -> None:
    builders.add("docker")
    with pytest.raises(UsageError, match=said):
        build_image(compiled, **options)  # type: ignore[arg-type]
    assert builders.calls() == []


def test_the_image_of_steps_that_fetch_their_code_is_not_built_over(
    builders: Builders, tmp_path: Path
) -> None:
    builders.add("docker")
    (tmp_path / "doubling.py").write_text(FLOW, encoding="utf-8")
    client = KitaruClient(f"sqlite:{tmp_path}/store.db")
    made = client.compile(str(tmp_path / "doubling.py"), "kubeflow", directory=tmp_path / "build")
    with pytest.raises(UsageError, match="it has no image of its own"):
        client.build_image(made.build.directory)
    assert builders.calls() == []
    assert client.build_image(made.build.directory, image=IMAGE).digest == DIGEST


def test_a_changed_build_is_not_built(compiled: Path, builders: Builders, tmp_path: Path) -> None:
    builders.add("docker")
    changed = tmp_path / "changed"
    shutil.copytree(compiled, changed)
    with (changed / "Dockerfile").open("a", encoding="utf-8") as file:
        file.write("RUN true\n")
    with pytest.raises(StateError, match="Dockerfile changed after it was compiled"):
        build_image(changed)
    assert builders.calls() == []


def test_the_image_fits_the_document_with_its_digest(compiled: Path, tmp_path: Path) -> None:
    # Neither the Dockerfile nor what it copies depends on the name of the image.
    client = KitaruClient(f"sqlite:{tmp_path}/store.db")
    again = client.compile(
        str(compiled.parents[2] / "doubling.py"), "kubeflow", directory=tmp_path / "build",
        image=f"registry.example.com:5000/team/flows@{DIGEST}", delivery="image",
    ).build.directory  # fmt: skip
    for name in ("Dockerfile", "bundle.zip", "plan.json"):
        assert (again / name).read_bytes() == (compiled / name).read_bytes()
    document = (again / "pipeline.yaml").read_text(encoding="utf-8")
    assert DIGEST in document and IMAGE not in document
