"""The hashes of what a container installs come from every kind of list that a project may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_compiler.frontend.lock_files import Locked, Need, condition, holds, read_lock

FLOW = """\
import httpx
from kitaru import checkpoint, flow

@checkpoint
def work(x: int) -> int:
    return x

@flow
def main(x: int) -> int:
    return work(x)
"""
PROJECT = """\
[project]
name = "mine"
version = "1"
dependencies = ["httpx[http2]>=0.2"]
"""
A, B, C, D, E = (f"sha256:{letter * 64}" for letter in "abcde")
UV = f"""\
[[package]]
name = "mine"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "httpx", extra = ["http2"] }}]

[[package]]
name = "httpx"
version = "0.28.1"
source = {{ registry = "https://index.example/simple" }}
dependencies = [
    {{ name = "pywin32", marker = "sys_platform == 'win32'" }},
    {{ name = "typing-extensions", marker = "python_full_version < '3.13'" }},
    {{ name = "fast", marker = "platform_machine == 'x86_64'" }},
    {{ name = "numbers", version = "1.0", marker = "python_full_version < '3.12'" }},
    {{ name = "numbers", version = "2.0", marker = "python_full_version >= '3.12'" }},
]
sdist = {{ url = "https://f.example/httpx-0.28.1.tar.gz", hash = "{B}" }}
wheels = [{{ url = "https://f.example/httpx-0.28.1-py3-none-any.whl", hash = "{A}" }}]

[package.optional-dependencies]
http2 = [{{ name = "h2" }}]

[[package]]
name = "h2"
version = "4.0"
wheels = [{{ url = "https://f.example/h2-4.0-py3-none-any.whl", hash = "{C}" }}]

[[package]]
name = "pywin32"
version = "306"

[[package]]
name = "typing-extensions"
version = "4.9"
wheels = [{{ url = "https://f.example/typing_extensions-4.9-py3-none-any.whl", hash = "{D}" }}]

[[package]]
name = "fast"
version = "1.0"
wheels = [
    {{ url = "https://f.example/fast-1.0-cp311-abi3-manylinux_2_17_x86_64.whl", hash = "{E}" }},
    {{ url = "https://f.example/fast-1.0-cp311-abi3-win_amd64.whl", hash = "{A}" }},
    {{ url = "https://f.example/fast-1.0-cp311-abi3-macosx_11_0_arm64.whl", hash = "{B}" }},
]

[[package]]
name = "numbers"
version = "1.0"
resolution-markers = ["python_full_version < '3.12'"]
wheels = [{{ url = "https://f.example/numbers-1.0-py3-none-any.whl", hash = "{A}" }}]

[[package]]
name = "numbers"
version = "2.0"
resolution-markers = ["python_full_version >= '3.12'"]
wheels = [{{ url = "https://f.example/numbers-2.0-py3-none-any.whl", hash = "{B}" }}]
"""
PYLOCK = f"""\
lock-version = "1.0"

[[packages]]
name = "httpx"
version = "0.28.1"
sdist = {{ url = "https://f.example/httpx-0.28.1.tar.gz", hashes = {{ sha256 = "{B[7:]}" }} }}
wheels = [{{ name = "httpx-0.28.1-py3-none-any.whl", hashes = {{ sha256 = "{A[7:]}" }} }}]

[[packages]]
name = "h2"
version = "4.0"
wheels = [{{ url = "https://f.example/h2-4.0-py3-none-any.whl", hashes.sha256 = "{C[7:]}" }}]

[[packages]]
name = "pywin32"
version = "306"
marker = "sys_platform == 'win32'"
"""
POETRY = f"""\
[[package]]
name = "httpx"
version = "0.28.1"
files = [
    {{ file = "httpx-0.28.1-py3-none-any.whl", hash = "{A}" }},
    {{ file = "httpx-0.28.1.tar.gz", hash = "{B}" }},
]

[package.dependencies]
h2 = ">=3"
pywin32 = {{ version = "*", markers = "sys_platform == 'win32'" }}
zstd = {{ version = "*", optional = true }}

[[package]]
name = "h2"
version = "4.0"
files = [{{ file = "h2-4.0-py3-none-any.whl", hash = "{C}" }}]

[[package]]
name = "zstd"
version = "1.0"
files = []
"""
PDM = f"""\
[[package]]
name = "httpx"
version = "0.28.1"
dependencies = ["pywin32; sys_platform == 'win32'"]
files = [
    {{ url = "https://f.example/httpx-0.28.1-py3-none-any.whl", hash = "{A}" }},
    {{ url = "https://f.example/httpx-0.28.1.tar.gz", hash = "{B}" }},
]

[[package]]
name = "httpx"
version = "0.28.1"
extras = ["http2"]
dependencies = ["h2", "httpx==0.28.1"]
files = []

[[package]]
name = "h2"
version = "4.0"
files = [{{ file = "h2-4.0-py3-none-any.whl", hash = "{C}" }}]
"""
EXPORTED = f"""\
# uv export
h2==4.0 \\
    --hash={C}
    # via httpx
httpx==0.28.1 \\
    --hash={A} \\
    --hash={B}
pywin32==306 ; sys_platform == 'win32' \\
    --hash={D}
"""
H2, HTTPX = Locked("h2", "4.0", "", (C,)), Locked("httpx", "0.28.1", "", (A, B))
BEFORE_312, FROM_312 = 'python_version == "3.11"', " or ".join(
    f'python_version == "{one}"' for one in ("3.12", "3.13", "3.14")
)  # fmt: skip


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"flow.py": FLOW, **files}.items():
        (folder / name).write_text(text)
    return folder / "flow.py"


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": PROJECT, "pylock.toml": PYLOCK},
        {"pyproject.toml": PROJECT, "poetry.lock": POETRY},
        {"pyproject.toml": PROJECT, "pdm.lock": PDM},
        {"requirements.txt": EXPORTED},
        {"requirements.txt": "httpx[http2]==0.28.1\n", "pyproject.toml": "", "pdm.lock": PDM},
    ],
)
def test_hashes_come_from_every_list(files: dict[str, str], tmp_path: Path) -> None:
    path = project(tmp_path, files)
    assert compile_flow(path).locked == (H2, HTTPX)
    assert check(path)[0] == ()


def test_a_lock_is_followed_for_every_container(tmp_path: Path) -> None:
    path = project(tmp_path, {"pyproject.toml": PROJECT, "uv.lock": UV})
    found = compile_flow(path)
    assert found.locked == (
        # Only the file that a container can install, and only where it is needed.
        Locked("fast", "1.0", 'platform_machine == "x86_64"', (E,)),
        H2,
        HTTPX,
        Locked("numbers", "1.0", BEFORE_312, (A,)),
        Locked("numbers", "2.0", f"({FROM_312})", (B,)),
        # A pure wheel fits where nothing needs it as well.
        Locked("typing-extensions", "4.9", "", (D,)),
    )
    assert found.plan.requirements == ("httpx[http2]==0.28.1",)
    assert check(path)[0] == ()


def test_a_version_for_each_python_is_installed(tmp_path: Path) -> None:
    listed = PROJECT.replace("httpx[http2]", "numbers")
    path = project(tmp_path, {"pyproject.toml": listed, "uv.lock": UV})
    path.write_text(FLOW.replace("import httpx", "import numbers_ as numbers"))
    found = compile_flow(path)
    assert found.plan.requirements == ()
    assert [(one.version, one.marker) for one in found.locked] == [
        ("1.0", BEFORE_312),
        ("2.0", f"({FROM_312})"),
    ]
    assert "KIT501" not in {d.code for d in check(path)[0]}


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"requirements.txt": "h2==1\nhttpx==0.28.1\n"}, "`h2`, `httpx`"),
        ({"requirements.txt": f"h2==1 --hash={A}\nhttpx==2\n"}, "`httpx`"),
        ({"requirements.txt": "httpx==0.28.1 --hash=sha256:abc\n"}, "`httpx`"),
        ({"pyproject.toml": PROJECT, "uv.lock": UV.replace(C, "md5:1")}, "`h2`"),
        # The list has another version than the lock.
        ({"pyproject.toml": PROJECT.replace("[http2]>=0.2", "==3"), "uv.lock": UV}, "`httpx`"),
    ],
)
def test_a_missing_hash_is_found(files: dict[str, str], named: str, tmp_path: Path) -> None:
    (finding,) = check(project(tmp_path, files))[0]
    assert (finding.code, finding.severity) == ("KIT509", "note")
    assert f"no hash is known of {named}:" in finding.message


@pytest.mark.parametrize(
    "source",
    [
        'source = { git = "https://git.example/httpx?rev=1#2" }',
        'source = { url = "https://files.example/httpx.whl" }',
        'source = { path = "httpx.whl" }',
    ],
)
def test_what_comes_from_no_index_is_not_installed_from_one(source: str, tmp_path: Path) -> None:
    lock = UV.replace('source = { registry = "https://index.example/simple" }', source)
    path = project(tmp_path, {"pyproject.toml": PROJECT, "uv.lock": lock})
    found = compile_flow(path)
    assert (found.plan.requirements, found.locked) == ((), ())
    assert [d.code for d in check(path)[0]] == ["KIT511"]


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("", ""),
        ("python_version >= '3.11'", ""),
        ("python_full_version < '3.11.3'", BEFORE_312),
        ("sys_platform == 'darwin'", None),
        ("platform_machine == 'aarch64'", 'platform_machine == "aarch64"'),
        (
            "platform_machine == 'aarch64' and python_version > '3.13'",
            'python_version == "3.14" and platform_machine == "aarch64"',
        ),
        ("this is no marker", ""),
    ],
)
def test_a_marker_is_one_about_containers(marker: str, expected: str | None) -> None:
    assert condition(marker) == expected


def test_a_lock_that_is_damaged_is_empty(tmp_path: Path) -> None:
    for text in ("[[package]]\nname = 3", "]", "package = 1", "[[package]]\nname = 'a'\nsdist = 1"):
        (tmp_path / "uv.lock").write_text(text)
        assert all(
            not p.hashes for ps in read_lock(tmp_path / "uv.lock").packages.values() for p in ps
        )
        assert read_lock(tmp_path / "uv.lock").closure([Need("b")]) == ()
    assert not holds("sys_platform == 'win32'", "3.11", "0", "x86_64")


IMAGE = "registry.example/agents:1.4"
DIGEST = f"{IMAGE}@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("option", "settings", "count"),
    [
        ("", "", 0),
        ("", f'image = "{IMAGE}"', 1),
        ("", f'base_image = "{IMAGE}"\nimage = "{IMAGE}"', 2),
        ("", f'image = "{DIGEST}"', 0),
        (f'(image="{IMAGE}")', f'image = "{DIGEST}"', 1),
        (f'(image="{DIGEST}")', f'image = "{IMAGE}"', 0),
    ],
)
def test_an_image_without_a_digest_is_found(
    option: str, settings: str, count: int, tmp_path: Path
) -> None:
    flow = FLOW.replace("import httpx\n", "").replace("@flow", f"@flow{option}")
    files = {"flow.py": flow, "pyproject.toml": f"[tool.kitaru]\n{settings}\n"}
    found = check(project(tmp_path, files))[0]
    assert [d.code for d in found] == ["KIT510"] * count
    assert all(IMAGE in d.message for d in found)
