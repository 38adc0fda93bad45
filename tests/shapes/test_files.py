"""Which files of a project travel to its steps, and what the compiler says of the others."""

from __future__ import annotations

import importlib.metadata
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import Compilation, check, compile_flow
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_compiler.lint.modules import COMMAND_LINE
from kitaru_targets import build, registry
from packaging.requirements import Requirement

from kitaru.errors import UsageError
from kitaru.runtime.steps.modules import import_file
from kitaru.stores.sqlite import SqliteStore

HEAD = """\
import glob, importlib, json, os, pkgutil, sys
from importlib import resources
from pathlib import Path
from kitaru import checkpoint, flow

HERE = Path(__file__).parent
"""
TAIL = """
@checkpoint
def read(x: int) -> str:
    return str(LOAD())

@flow
def main(x: int) -> str:
    return read(x)
"""
KEY = "AKIA" + "Z7Q2M4N8P1R5T9V3"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def compiled(folder: Path, load: str, files: dict[str, str], flow: str = "flow.py") -> Compilation:
    write(folder, {flow: f"{HEAD}{load}\n{TAIL}", **files})
    return compile_flow(folder / flow)


def data(compilation: Compilation) -> list[str]:
    return list(compilation.travel.reasons)


def codes(compilation: Compilation) -> list[str]:
    return [d.code for d in compilation.diagnostics if d.code.startswith("KIT5")]


@pytest.mark.parametrize(
    ("load", "names"),
    [
        ('LOAD = lambda: (HERE / "a.md").read_text()', ["a.md"]),
        ('LOAD = lambda: open(HERE / "d" / "a.md").read()', ["d/a.md"]),
        ('LOAD = lambda: Path(__file__).with_name("a.md").read_text()', ["a.md"]),
        ('D = HERE / "d"\nLOAD = lambda: (D / "a.md").read_text()', ["d/a.md"]),
        ('D = HERE / "d"\nLOAD = lambda: sorted(D.glob("*.md"))', ["d/a.md", "d/b.md"]),
        ('D = HERE / "d"\nLOAD = lambda: sorted(D.rglob("*.md"))',
         ["d/a.md", "d/b.md", "d/e/c.md"]),
        ('D = HERE / "d"\nLOAD = lambda: [p for p in D.iterdir()]',
         ["d/a.md", "d/b.md", "d/x.json"]),
        ('LOAD = lambda: os.listdir(os.path.join(os.path.dirname(__file__), "d"))',
         ["d/a.md", "d/b.md", "d/x.json"]),
        ('def LOAD(n="a"):\n    return (HERE / "d" / f"{n}.md").read_text()', ["d/a.md", "d/b.md"]),
        ('def LOAD(n="a"):\n    return open(os.path.join("d", n + ".md")).read()',
         ["d/a.md", "d/b.md"]),
        ('LOAD = lambda: glob.glob(str(HERE / "d" / "*.json"))', ["d/x.json"]),
        ('class C:\n    D = HERE / "d"\nLOAD = lambda: os.listdir(C.D)',
         ["d/a.md", "d/b.md", "d/e/c.md", "d/x.json"]),
        ('LOAD = lambda: open("a.md").read()', ["a.md"]),
        ('LOAD = lambda: json.loads(Path("d/x.json").read_text())', ["d/x.json"]),
        ('NAME = "d/x.json"\ndef LOAD():\n    with open(NAME) as f: return f.read()', ["d/x.json"]),
        ('LOAD = lambda: (resources.files("pkg") / "in.txt").read_text()', ["pkg/in.txt"]),
        ('LOAD = lambda: pkgutil.get_data("pkg", "in.txt")', ["pkg/in.txt"]),
        ('from pkg import PKG_FILE\nLOAD = lambda: PKG_FILE.read_text()',
         ["pkg/in.txt", "pkg/more.bin"]),
        ('import pkg\nLOAD = lambda: pkg.PKG_FILE.read_text()', ["pkg/in.txt", "pkg/more.bin"]),
        ('LOAD = lambda: (HERE / "out.md").write_text("a.md")', []),
        ('LOAD = lambda: print("a.md")', []),
    ],
)  # fmt: skip
def test_files_that_code_names_travel(load: str, names: list[str], tmp_path: Path) -> None:
    files = ["a.md", "d/a.md", "d/b.md", "d/e/c.md", "d/x.json", "other.md", "pkg/in.txt"]
    files += ["d/node_modules/x.md", "pkg/more.bin"]
    pkg = 'from pathlib import Path\nPKG_FILE = Path(__file__).parent / "more.bin"\n'
    written = dict.fromkeys(files, "text") | {"pkg/__init__.py": pkg}
    found = compiled(tmp_path, load, written)
    assert data(found) == names
    assert codes(found) == []


@pytest.mark.parametrize(
    "load",
    [
        'LOAD = lambda: importlib.import_module("plugins.one").NAME',
        'LOAD = lambda n="one": importlib.import_module(f"plugins.{n}").NAME',
        'LOAD = lambda n="one": importlib.import_module("." + n, package="plugins").NAME',
        'LOAD = lambda n="one": __import__("plugins." + n)',
        "import plugins\nLOAD = lambda: [m.name for m in pkgutil.iter_modules(plugins.__path__)]",
        'LOAD = lambda: [m.name for m in pkgutil.iter_modules([str(HERE / "plugins")])]',
        'sys.path.insert(0, str(HERE / "lib"))\nimport one\nLOAD = lambda: one.NAME',
        'sys.path.append(os.path.join(os.path.dirname(__file__), "lib"))\nimport one\nLOAD=one.f',
    ],
)
def test_modules_that_code_makes_up_travel(load: str, tmp_path: Path) -> None:
    one = "import helper\nNAME = 'one'\ndef f(): return 1\n"
    files = {"plugins/__init__.py": "", "plugins/one.py": one, "lib/one.py": one}
    found = compiled(tmp_path, load, {**files, "helper.py": "", "unused.py": ""})
    assert {"helper.py", "flow.py"} < found.travel.files.keys()
    assert {"plugins/one.py", "lib/one.py"} & found.travel.files.keys()
    assert "unused.py" not in found.travel.files
    assert codes(found) == []


def test_a_folder_above_the_import_root_becomes_the_base_of_the_bundle(tmp_path: Path) -> None:
    load = 'ROOT = Path(__file__).parents[1]\nLOAD = lambda: (ROOT / "prompts/a.md").read_text()'
    files = {"prompts/a.md": "x", "prompts/b.md": "x", "flows/other.py": ""}
    found = compiled(tmp_path, load, files, "flows/agent.py")
    assert set(found.travel.files) == {"flows/agent.py", "prompts/a.md"}
    assert (found.plan.module, found.plan.file) == ("agent", "flows/agent.py")


def test_include_and_exclude(tmp_path: Path) -> None:
    settings = '[tool.kitaru]\ninclude = ["prompts/**", "*.bin"]\nexclude = ["*.secret.md"]\n'
    files = {"pyproject.toml": settings, ".gitignore": "*.bin\n", "prompts/de/a.md": "x"}
    files |= {"model.bin": "x", "a.md": "x", "x.secret.md": "x"}
    load = 'LOAD = lambda: [p.name for p in HERE.glob("*.md")]'
    found = compiled(tmp_path, load, files, "flows/agent.py")
    assert data(found) == ["model.bin", "prompts/de/a.md"]
    assert found.plan.file == "flows/agent.py"


@pytest.mark.parametrize(
    ("load", "ignore", "told"),
    [
        ('LOAD = lambda: list((HERE / "d").glob("*.md"))', "*.md", "`d/a.md`"),
        ('LOAD = lambda: list((HERE / "d").glob("*.md"))', "a.md", "`d/a.md`"),
        ('LOAD = lambda: list((HERE / "d").iterdir())', "b.md", "`d/b.md`"),
        ('LOAD = lambda n="a": (HERE / "d" / f"{n}.md").read_text()', "d", "`d/a.md`"),
        ('LOAD = lambda: glob.glob("d/*.md")', "d", "`d/a.md`"),
        ('LOAD = lambda: os.path.exists(HERE / "d")', "*.md", "`d/a.md`"),
        ('LOAD = lambda: os.path.exists(HERE / "d")', "a.md", ""),
    ],
)
def test_a_listing_that_finds_less_in_a_step_is_found(
    load: str, ignore: str, told: str, tmp_path: Path
) -> None:
    write(tmp_path, {"d/a.md": "", "d/b.md": "", ".gitignore": ignore})
    found = [d for d in compiled(tmp_path, load, {}).diagnostics if d.code == "KIT504"]
    assert [told in d.message for d in found] == [True] * bool(told)


def test_ignored_files_stay_out_and_a_read_of_one_is_found(tmp_path: Path) -> None:
    files = {".gitignore": "d/*.md\n", "d/.kitaruignore": "!b.md\n", "d/a.md": "", "d/b.md": ""}
    load = 'LOAD = lambda: ((HERE / "d" / "a.md").read_text(), list((HERE / "d").glob("*")))'
    found = compiled(tmp_path, load, files)
    assert data(found) == ["d/.kitaruignore", "d/b.md"]
    (finding,) = [d for d in found.diagnostics if d.code == "KIT504"]
    assert "d/a.md" in finding.message and ".gitignore" in finding.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", "A=1"),
        (".env.local", "A=1"),
        ("tls.pem", "x"),
        ("credentials.json", "{}"),
        ("id_rsa", "x"),
        ("notes.md", f"the key is {KEY}"),
        ("settings.yaml", "api_key: q8Zt4Lm2Vx9Rb7Kd1Nw5\n"),
        ("account.json", '{"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANB12gkqh"}'),
    ],
)
def test_credentials_never_travel(name: str, text: str, tmp_path: Path) -> None:
    settings = f'[tool.kitaru]\ninclude = ["d/{name}"]\n'
    files = {"pyproject.toml": settings, f"d/{name}": text, "d/a.md": "x"}
    found = compiled(tmp_path, 'LOAD = lambda: list((HERE / "d").iterdir())', files)
    assert data(found) == ["d/a.md"]
    assert codes(found) == ["KIT504"]


def test_no_store_travels_with_what_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with closing(SqliteStore(tmp_path / "d" / "kitaru.db")) as store:
        store.create("x/e/inv/draft", b"recorded")
        load = 'LOAD = lambda: [p.name for p in (HERE / "d").iterdir()]'
        made = compiled(tmp_path, load, {"d/a.md": "a"})
    assert data(made) == ["d/a.md"]
    assert not any(b"recorded" in one for one in made.travel.files.values())


def test_a_link_out_of_the_project_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    project = tmp_path / "project"
    project.mkdir()
    (project / "link.txt").symlink_to(tmp_path / "secret.txt")
    found = compiled(project, 'LOAD = lambda: (HERE / "link.txt").read_text()', {})
    assert data(found) == [] and codes(found) == ["KIT504"]


def test_too_many_bytes_are_refused_with_the_largest_files(tmp_path: Path) -> None:
    for name, size in {"huge.bin": 5000, "large.bin": 30, "small.bin": 3}.items():
        (tmp_path / "d").mkdir(exist_ok=True)
        with (tmp_path / "d" / name).open("wb") as file:
            file.truncate(size * 1024 * 1024)
    with pytest.raises(SourceError) as caught:
        compiled(tmp_path, 'LOAD = lambda: list((HERE / "d").iterdir())', {})
    (finding,) = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert finding.code == "KIT506"
    assert "d/huge.bin (5000.0 MB), d/large.bin (30.0 MB), d/small.bin" in finding.message


def test_a_file_that_cannot_be_read_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"d/a.md": "x"})
    before = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "a.md":
            raise PermissionError(13, "Permission denied")
        return before(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    found = compiled(tmp_path, 'LOAD = lambda: list((HERE / "d").iterdir())', {})
    assert data(found) == [] and codes(found) == ["KIT504"]


@pytest.mark.parametrize(
    "load",
    [
        'LOAD = lambda: open("gone.json").read()',
        "LOAD = lambda n='json': importlib.import_module(n)",
    ],
)
def test_what_no_step_has_is_found(load: str, tmp_path: Path) -> None:
    write(tmp_path, {"flow.py": f"{HEAD}{load}\n{TAIL}"})
    assert [d.code for d in check(tmp_path / "flow.py")[0]] == ["KIT504"]


def test_a_file_that_the_code_writes_first_is_not_missing(tmp_path: Path) -> None:
    load = 'def LOAD():\n    open("out.txt", "w").write("x")\n    return open("out.txt").read()'
    assert codes(compiled(tmp_path, load, {})) == []


def test_the_lock_says_why_and_the_bytes_are_the_same_again(tmp_path: Path) -> None:
    load = 'LOAD = lambda: (HERE / "a.md").read_text()'
    found = compiled(tmp_path / "one", load, {"a.md": "x"})
    target = registry.get("vertex")
    first = build.write(found, target, tmp_path / "out")
    again = compiled(tmp_path / "two", load, {"a.md": "x", "unrelated.md": "y"})
    second = build.write(again, target, tmp_path / "out2")
    assert first.bundle_digest == second.bundle_digest
    with zipfile.ZipFile(tmp_path / "out" / "bundle.zip") as archive:
        assert archive.read("a.md") == b"x"
    assert '"a.md": "flow.py:7 names it"' in (tmp_path / "out" / "lock.json").read_text()


def test_a_module_that_writes_the_memory_which_the_flow_reads_travels(tmp_path: Path) -> None:
    writer = "from kitaru import memory\ndef note(x): memory.set('a', x, scope='namespace:n')\n"
    files = {"writer.py": writer, "test_writer.py": writer, "other.py": "from kitaru import flow"}
    load = "from kitaru import memory\nLOAD = lambda: memory.get('a', scope='namespace:n')"
    found = compiled(tmp_path, load, files)
    assert set(found.travel.files) == {"flow.py", "writer.py"}
    assert data(found) == ["writer.py"]


@pytest.mark.parametrize(
    "load",
    [
        "import calendar",
        "from calendar import go",
        "def LOAD():\n    from calendar import go",
        'h = importlib.import_module("calendar")',
    ],
)
def test_a_module_with_the_name_of_another_is_refused(load: str, tmp_path: Path) -> None:
    write(tmp_path, {"calendar.py": "def go(): return 1", "flow.py": f"{HEAD}{load}\n{TAIL}"})
    (finding,) = [d for d in check(tmp_path / "flow.py")[0] if d.severity == "error"]
    assert finding.code == "KIT505" and finding.span.file == "flow.py"
    with pytest.raises(UsageError, match="imports calendar"):
        import_file(tmp_path / "flow.py")


def test_a_file_whose_module_would_have_the_name_of_another_is_refused(tmp_path: Path) -> None:
    text = f"{HEAD}LOAD = str\n{TAIL}"
    write(tmp_path, {"my.flow.py": text, "my_flow.py": ""})
    assert [d.code for d in check(tmp_path / "my.flow.py")[0]] == ["KIT505"]
    (tmp_path / "my_flow.py").unlink()
    assert check(tmp_path / "my.flow.py")[0] == ()


def test_the_names_of_the_command_line_are_those_that_it_needs() -> None:
    needed, pending = set[str](), ["kitaru"]
    while pending:
        for text in importlib.metadata.requires(pending.pop()) or ():
            requirement = Requirement(text)
            name = requirement.name.lower()
            asked = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if asked and name not in needed:
                needed.add(name)
                pending.append(name)
    modules = {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if needed & {name.lower() for name in distributions} and not module.startswith("_")
    }
    assert modules - {"kitaru"} <= COMMAND_LINE
