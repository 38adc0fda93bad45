"""Build and push the container image of a compiled flow, with the tools of this machine.

The `Dockerfile` of a build and its bundle do not depend on the name of the image. So a flow is
compiled with a tag, its image is built and pushed, and then the flow is compiled again with the
digest of the image:

    kitaru compile flow.py --target kubeflow --delivery image --image REGISTRY/NAME:1
    kitaru build build/flow/kubeflow
    kitaru compile flow.py --target kubeflow --delivery image --image REGISTRY/NAME@sha256:…
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kitaru.errors import EnvironmentFailure, UsageError

Builder = Literal["docker", "podman", "buildah", "gcloud", "az"]
PLATFORM = "linux/amd64"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN = 5
_LOGIN = re.compile(
    r"unauthorized|denied|authentication required|no basic auth|not authenticated|not logged in",
    re.IGNORECASE,
)
_MISSING = re.compile(r"repository .*(not exist|not found)|name unknown", re.IGNORECASE)
_SILENT = re.compile(r"(cannot|trying to) connect to|docker daemon running", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that was built.

    Attributes:
        image: its name with the tag.
        digest: its digest in the registry; None if it was not pushed, or the builder reports none.
        builder: the program that built it.
        is_pushed: whether it is in the registry.
    """

    image: str
    digest: str | None
    builder: Builder
    is_pushed: bool

    @property
    def pinned(self) -> str:
        """The name of exactly this image, or the name with the tag if no digest is known."""
        return f"{_repository(self.image)}@{self.digest}" if self.digest else self.image


def build_image(
    directory: Path,
    *,
    image: str | None = None,
    builder: str | None = None,
    platform: str = PLATFORM,
    push: bool = True,
    report: Callable[[str], None] | None = None,
) -> BuiltImage:
    """Build the image of the build in `directory`, and push it to its registry.

    Args:
        image: name with a tag; default the image that the flow was compiled with.
        builder: `docker`, `podman`, `buildah`, `gcloud` or `az`; default the first that works here
            and can push to the image's registry.
        platform: platform of the nodes that run it.
        push: push the image. Cloud builders always do.
        report: called with each line that the builder prints.

    Raises:
        StateError: there is no build in the directory, or a file of it was changed.
        UsageError: no image is named, its name contains a digest, or the builder does not fit.
        EnvironmentFailure: no builder works here, or the builder failed.

    Example:
        build_image(Path("build/review/kubeflow")).pinned
    """
    from kitaru_targets import build, delivery

    found = build.read(directory)
    # With the delivery `store`, the image of the steps is one that exists.
    named = image or ("" if found.delivery == "store" else found.lock.image)
    if not named:
        raise UsageError(
            f"The steps of {directory} fetch their code from the store: it has no image of its "
            "own.",
            help="Compile with --delivery image --image REGISTRY/NAME:TAG, or name the image: "
            f"kitaru build {directory} --image REGISTRY/NAME:TAG",
        )
    delivery.check_image(named)
    if "@" in named:
        raise UsageError(
            f"{named} names an image that exists: its digest is known only after it was built.",
            help=f"Name a tag: kitaru build {directory} --image {_repository(named)}:TAG",
        )
    if not re.fullmatch(r"[a-z0-9]+(/[a-z0-9.]+)+", platform):
        raise UsageError(f"{platform!r} is not a valid platform.", help="Such as linux/arm64")
    chosen = _builder(builder, named)
    if chosen in ("gcloud", "az") and not push:
        raise UsageError(f"{chosen} builds in the cloud, and pushes what it builds.")
    run = _Commands(chosen, named, report or (lambda line: None))
    context = str(directory.resolve())
    match chosen:
        case "gcloud":
            run("builds", "submit", context, "--tag", named)
        case "az":
            registry, _, rest = named.partition(".azurecr.io/")
            where = ["--registry", registry, "--image", rest, "--platform", platform]
            run("acr", "build", *where, context)
        case _:
            run("build", "--platform", platform, "--tag", named, context)
    return BuiltImage(named, _digest(run, named) if push else None, chosen, push)


def _digest(run: _Commands, image: str) -> str | None:
    """Push an image that was built here; return its digest in the registry."""
    match run.builder:
        case "docker":
            run("push", image)
            listed = run("image", "inspect", "--format", "{{json .RepoDigests}}", image)
            own = [one for one in _texts(listed) if one.startswith(f"{_repository(image)}@")]
            text = own[0] if own else ""
        case "gcloud":
            place = ["artifacts", "docker", "images", "describe", image]
            text = run(*place, "--format", "value(image_summary.digest)")
        case "az":
            registry, _, rest = image.partition(".azurecr.io/")
            place = ["acr", "repository", "show", "--name", registry, "--image", rest]
            text = run(*place, "--query", "digest", "--output", "tsv")
        case _:
            with tempfile.TemporaryDirectory(prefix="kitaru-build-") as folder:
                file = Path(folder) / "digest"
                run("push", "--digestfile", str(file), image)
                text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = _DIGEST.search(text)
    return found[0] if found else None


def _texts(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _builder(named: str | None, image: str) -> Builder:
    """Return the builder to use, which exists on this machine."""
    if named is not None:
        for known in get_args(Builder):
            if known == named:
                _check_registry(known, image)
                if shutil.which(known) is None:
                    raise EnvironmentFailure(
                        f"There is no {known} on this machine.",
                        help="Install it, or omit --builder.",
                    )
                return known  # type: ignore[no-any-return]
        raise UsageError(
            f"Unknown builder {named!r}.", help=f"one of: {', '.join(get_args(Builder))}"
        )
    tried = []
    for program in get_args(Builder):
        if shutil.which(program) is None:
            tried.append(f"{program} is not installed")
        elif program == "docker" and (silent := _silent_docker()):
            tried.append(f"docker does not work: {silent}")
        elif not _is_registry_of(program, image):
            tried.append(f"{program} builds for its own registry only")
        else:
            return program  # type: ignore[no-any-return]
    raise EnvironmentFailure(
        f"Nothing on this machine can build the image {image}: {'; '.join(tried)}.",
        help="Install docker, podman or buildah, or start Docker. A machine of your CI usually has "
        "one: run the same command there.",
    )


def _silent_docker() -> str:
    """Return what Docker's client says if it reaches no server, otherwise an empty string."""
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    said = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")


def _is_registry_of(builder: str, image: str) -> bool:
    host = image.partition("/")[0]
    if builder == "gcloud":
        return host.endswith("-docker.pkg.dev")
    return builder != "az" or host.endswith(".azurecr.io")


def _check_registry(builder: str, image: str) -> None:
    if not _is_registry_of(builder, image):
        name = "NAME.azurecr.io" if builder == "az" else "REGION-docker.pkg.dev"
        raise UsageError(
            f"{builder} builds images of its own registry only, {name}/…: not {image}."
        )


class _Commands:
    """Runs commands of a builder, and explains their failures."""

    def __init__(self, builder: Builder, image: str, report: Callable[[str], None]) -> None:
        self.builder = builder
        self._image = image
        self._report = report

    def __call__(self, *arguments: str) -> str:
        """Run a command; return its output. Raise EnvironmentFailure if it fails."""
        lines: list[str] = []
        with subprocess.Popen(
            [self.builder, *arguments], stdin=subprocess.DEVNULL, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                self._report(lines[-1])
        if process.returncode != 0:
            last = deque((line for line in lines if line.strip()), _SHOWN)
            raise self._failure(arguments, process.returncode, list(last))
        return "\n".join(lines)

    def _failure(self, arguments: Sequence[str], code: int, lines: list[str]) -> EnvironmentFailure:
        words = " ".join(word for word in arguments[:2] if not word.startswith(("-", "/")))
        what = f"{self.builder} {words.split()[0]}"
        shown = "\n".join(f"  {line}" for line in lines) or "  (it printed nothing)"
        text = "\n".join(lines)
        if _SILENT.search(text):
            help = "Start Docker, or name another builder: --builder podman"
        elif _MISSING.search(text):
            help = _create(self._image)
        elif _LOGIN.search(text):
            help = _log_in(self.builder, self._image)
        else:
            help = "Its output is above. The files of the build are those that were compiled."
        return EnvironmentFailure(f"{what} failed with exit code {code}:\n{shown}", help=help)


def _log_in(builder: str, image: str) -> str:
    """Return the command that logs in to the registry of an image."""
    host = image.partition("/")[0]
    if ".dkr.ecr." in host:
        region = host.split(".")[3]
        return (
            f"Log in: aws ecr get-login-password --region {region} | "
            f"{builder} login --username AWS --password-stdin {host}"
        )
    if host.endswith(("-docker.pkg.dev", ".gcr.io")) or host == "gcr.io":
        return f"Log in: gcloud auth configure-docker {host}"
    if host.endswith(".azurecr.io"):
        return f"Log in: az acr login --name {host.removesuffix('.azurecr.io')}"
    if "." in host or ":" in host:
        return f"Log in: {builder} login {host}"
    return f"Log in: {builder} login"


def _create(image: str) -> str:
    """Return the command that creates the repository of an image."""
    host, _, rest = _repository(image).partition("/")
    if ".dkr.ecr." in host:
        region = host.split(".")[3]
        return (
            "Create the repository: "
            f"aws ecr create-repository --region {region} --repository-name {rest}"
        )
    if host.endswith("-docker.pkg.dev") and rest.count("/") >= 2:
        project, repository, _ = rest.split("/", 2)
        location = host.removesuffix("-docker.pkg.dev")
        return (
            f"Create the repository: gcloud artifacts repositories create {repository} "
            f"--project {project} --location {location} --repository-format docker"
        )
    return f"Create the repository {rest or host} in the registry, and run the command again."


def _repository(image: str) -> str:
    """Return the name of an image without tag and digest.

    >>> _repository("localhost:5000/flows:1"), _repository("a/b@sha256:00")
    ('localhost:5000/flows', 'a/b')
    """
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"
