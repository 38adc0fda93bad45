"""Unpacks a bundle that was checked, puts it on the path and runs one step from it.

A bundle contains this program. The program that starts in the container passes the bundle's content
as `brought`, and its arguments are BUNDLE [PACKAGE ...] step ... --store URL ...
"""

import atexit
import hashlib
import importlib.metadata
import io
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile

LIMIT = 64 * 1024 * 1024


def stop(reason: str) -> None:
    sys.stderr.write("kitaru: " + reason + "\n")
    raise SystemExit(3)


def lacking(lines: list[str]) -> str:
    found = []
    dry = os.environ.get("KITARU_MODE") == "dry-run"
    for line in [] if dry else lines:
        name, version = line.split()[0].split("==")
        try:
            here = importlib.metadata.version(name.split("[")[0])
        except importlib.metadata.PackageNotFoundError:
            here = ""
        if here != version:
            found.append(name + "==" + version)
    return " ".join(found)


def install(lines: list[str]) -> None:
    hashed = [line for line in lines if " --hash=" in line]
    bare = [line for line in lines if line not in hashed]
    # What a hashed one needs may be in the second list.
    closed = ["--require-hashes", *(["--no-deps"] if bare else [])]
    for some, options in ((hashed, closed), (bare, [])):
        if not (missing := lacking(some)):
            continue
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("\n".join(some))
            file.flush()
            pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "install"]
            done = subprocess.run([*pip, "-q", *options, "-r", file.name], stdout=sys.stderr)
            if done.returncode:
                stop("cannot install " + missing + "; put it into the image")


def unpack(data: bytes, root: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sum(m.file_size for m in members) > LIMIT or len(members) > 20_000:
            stop("the bundle is too large")
        for m in members:
            path = pathlib.PurePosixPath(m.filename)
            plain = m.external_attr >> 28 in (0, 4, 8) and m.compress_type in (0, 8)
            unsafe = path.is_absolute() or ".." in path.parts or "\\" in m.filename
            if unsafe or not plain or len(path.parts) >= 50:
                stop("the bundle holds an unsafe path")
        archive.extractall(root)


def listed(root: str, store: str) -> list[str]:
    lists = pathlib.Path(root, "kitaru_build").glob("requirements*.txt")
    some = [p.read_text() for p in lists if store[:7] != "sqlite:" or "store" not in p.name]
    return sorted(set(filter(None, re.sub(r"\\\n *", "", "".join(some)).split("\n"))))


def remove(root: str, process: int) -> None:
    # A process that the flow forked still shares the folder with its parent.
    if os.getpid() == process:
        shutil.rmtree(root, ignore_errors=True)


def main(bundle: str, *rest: str) -> None:
    lines, arguments = list(rest[: rest.index("step")]), rest[rest.index("step") :]
    store = arguments[arguments.index("--store") + 1]
    if bundle.startswith("inline:") and (missing := lacking(lines)):
        stop("the image lacks " + missing + ": build it again from the Dockerfile")
    brought = globals()["brought"]
    if not bundle.startswith("inline:"):
        # The execution records it, so that a residual pipeline runs the same code.
        os.environ["KITARU_BUNDLE"] = "sha256:" + hashlib.sha256(brought).hexdigest()
    root = tempfile.mkdtemp(prefix="kitaru-")
    # A worker of an orchestrator lives longer than a step.
    atexit.register(remove, root, os.getpid())
    unpack(brought, root)
    install(listed(root, store))
    sys.path[:0] = [root]
    # The working directory is the bundle, as in an image; outputs stay where they were named.
    pairs = zip(("", *arguments), arguments, strict=False)
    paths = [str(pathlib.Path(a).absolute()) if o.endswith("-file") else a for o, a in pairs]
    os.chdir(root)
    plan = root + "/kitaru_build/plan.json"
    sys.argv = ["kitaru.runtime", "step", "--plan", plan, *paths[1:]]
    runpy.run_module("kitaru.runtime", run_name="__main__", alter_sys=True)


main(*sys.argv[1:])
