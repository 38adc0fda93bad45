"""A step starts what was compiled: it reads its bundle once, and no other module.

The documents are run as the dry run does, each start program in a new process, whose working
directory or whose store somebody else writes to.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, bundle, delivery, dry_run, registry
from kitaru_targets.dry_run import process

from kitaru.client import KitaruClient
from kitaru.stores import open_store
from kitaru.wire import keys

FLOW = """
from kitaru import checkpoint, flow

@checkpoint
def first() -> str:
    return "compiled"

@checkpoint
def second(said: str) -> str:
    return said

@flow
def starting() -> str:
    return second(first())
"""
TARGETS = [name for name in registry.names() if name != registry.LOCAL]
# Modules that the start programs, pip or the runtime import.
HOSTILE = (
    "base64", "hashlib", "importlib_metadata", "io", "json", "kitaru", "obstore", "pip", "pathlib",
    "runpy", "sitecustomize", "sqlite3", "tempfile", "typing", "usercustomize", "zipfile", "zlib",
)  # fmt: skip
# Returns which files of its store a step has locked.
HELD = """
import os
from pathlib import Path
from kitaru import checkpoint, flow

@checkpoint
def held() -> str:
    files = {os.stat(path).st_ino: path.name for path in Path(os.environ["STORE"]).parent.iterdir()}
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    mine = [line[5] for line in lines if line[4] == str(os.getpid())]
    return str(sorted({files[int(place.split(":")[2])] for place in mine}))

@flow
def starting() -> str:
    return held()
"""
# Exchanges the bundle when it is read a second time: each file or row that a start program opens
# is reported to an audit hook before it is opened.
EXCHANGE = """
import os, sqlite3, sys
reads, exchanging = [], False

def hook(event, arguments):
    global exchanging
    if exchanging or "kitaru.runtime" in sys.modules:
        return
    name = os.environ["NAME"]
    is_file = event == "open" and str(arguments[0]).endswith((name, "bundle.zip"))
    is_store = event == "sqlite3.connect" and "kitaru-store.db" in str(arguments[0])
    if not (is_file or is_store):
        return
    exchanging = True
    reads.append(str(arguments[0]))
    with open(os.environ["READS"], "a") as seen:
        seen.write(f"{os.getpid()} {arguments[0]}\\n")
    if len(reads) > 1 or os.environ["WHEN"] == "first":
        evil = open(os.environ["EVIL"], "rb").read()
        if is_file:
            open(arguments[0], "wb").write(evil)
        else:
            with sqlite3.connect(os.environ["STORE"]) as database:
                row = (evil, "bundle/" + name)
                database.execute("UPDATE object SET value = ? WHERE key = ?", row)
    exchanging = False

sys.addaudithook(hook)
"""


def compiled(folder: Path, target: str, source: str = FLOW, how: str = "store") -> build.Build:
    folder.mkdir()
    (folder / "flow.py").write_text(source)
    chosen = registry.get(target)
    image = "registry.example/flows@sha256:" + "0" * 64
    made = compile_flow(folder / "flow.py", profile=chosen.profile)
    return build.write(made, chosen, folder / "build", image=image, delivery=how)


Run = Callable[[build.Build, Path, Mapping[str, str]], str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a build, each step a new process in a folder, with more variables."""

    def run(made: build.Build, folder: Path, more: Mapping[str, str]) -> str:
        def started(
            command: Sequence[str], _: Path, environment: Mapping[str, str], files: object = ()
        ) -> tuple[int, str]:
            done = subprocess.run(
                command, cwd=folder, env={**environment, **more}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            return done.returncode, done.stdout

        monkeypatch.setattr(process, "run_command", started)
        url = f"sqlite:{tmp_path / 'kitaru-store.db'}"
        exec_id = dry_run.run(made, inputs={}, answers={}, store_url=url)
        return str(KitaruClient(url).executions.get(exec_id).to_dict()["result"])

    return run


@pytest.mark.parametrize(
    ("target", "how"),
    [
        (target, how)
        for target in TARGETS
        for how in ("store", "inline")
        # Not every document can hold the code.
        if how == "store" or registry.get(target).transport.inline
    ],
)
def test_no_module_of_the_working_directory_is_imported(
    target: str, how: str, tmp_path: Path, run: Run
) -> None:
    made = compiled(tmp_path / "project", target, how=how)
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in HOSTILE:
        (hostile / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n"
        )
    assert run(made, hostile, {"PYTHONPATH": ""}) == "compiled"
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["store", "image"])
def test_every_document_starts_python_without_its_folder(
    target: str, how: str, tmp_path: Path
) -> None:
    made = compiled(tmp_path / "project", target, how=how)
    # How the containers start may be in a file beside the document.
    documents = [made.target.document, *made.target.further]
    text = "".join(made.read(name).decode() for name in documents)
    assert text.count("python3") == len(re.findall(r"""python3"?[,\s"'-]*-P\b""", text)) > 0


@pytest.mark.parametrize("target", TARGETS)
def test_the_bundle_is_read_once(target: str, tmp_path: Path, run: Run) -> None:
    made = compiled(tmp_path / "project", target)
    seen, variables = exchanging(tmp_path, made, target, "second")
    assert run(made, tmp_path, variables) == "compiled"
    reads = seen.read_text().split("\n")[:-1]
    assert reads and len({line.split()[0] for line in reads}) == len(reads), reads


@pytest.mark.parametrize("target", TARGETS)
def test_the_exchange_would_be_seen(target: str, tmp_path: Path, run: Run) -> None:
    """Exchanged before the first read, the bundle is refused: the attack itself works."""
    made = compiled(tmp_path / "project", target)
    _, variables = exchanging(tmp_path, made, target, "first")
    with pytest.raises(Exception, match="is not what was compiled"):
        run(made, tmp_path, variables)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the locks of files")
def test_a_step_holds_the_locks_of_its_store(tmp_path: Path, run: Run) -> None:
    """Without them, the next process takes a store for unused, and empties files in use."""
    made = compiled(tmp_path / "project", "airflow", HELD)
    held = run(made, tmp_path, {"STORE": str(tmp_path / "kitaru-store.db")})
    assert held == "['kitaru-store.db', 'kitaru-store.db-shm']"


def exchanging(
    folder: Path, made: build.Build, target: str, when: str
) -> tuple[Path, dict[str, str]]:
    """Return the file that names the reads, and the variables that exchange the bundle."""
    evil = compiled(folder / "evil", target, FLOW.replace("compiled", "exchanged"))
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(EXCHANGE)
    return folder / "reads", {
        "PYTHONPATH": str(folder / "hook"),
        "NAME": made.bundle_digest.removeprefix("sha256:"),
        "EVIL": str(evil.directory / "bundle.zip"),
        "READS": str(folder / "reads"),
        "STORE": str(folder / "kitaru-store.db"),
        "WHEN": when,
    }


def test_what_is_hashed_is_what_runs(tmp_path: Path) -> None:
    """The program for bundles that a service brings, from a pipe: a second read would wait."""
    store = open_store(f"sqlite:{tmp_path}/k.db")
    made = compiled(tmp_path / "project", "sagemaker")
    data = made.read("bundle.zip")
    store.create(keys.bundle(made.bundle_digest), data)
    pipe = tmp_path / made.bundle_digest.removeprefix("sha256:")
    os.mkfifo(pipe)
    command = [*delivery.PYTHON, "-c", delivery.CHECKED, str(pipe), "step", "--help"]
    with subprocess.Popen(
        [*command, "--store", store.url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)}, text=True,
    ) as started:  # fmt: skip
        pipe.write_bytes(data)
        try:
            said, _ = started.communicate(timeout=240)
        finally:
            started.kill()
    assert "usage" in said, said


def test_the_program_for_brought_bundles_is_one_argument() -> None:
    assert len(delivery.CHECKED) <= 256
    assert f"{bundle.BUILD}/bootstrap.py" in delivery.CHECKED
