"""Fixing files: what is written, what is refused, and that other files and bytes stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.errors import EnvironmentFailure, StateError
from kitaru.ops import source_files
from kitaru.ops.fix import fix
from kitaru.ops.flow_ref import locate
from kitaru.ops.source_files import read_source

SOURCE = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint(retries="3")  # café
def draft(topic: str) -> str:
    return topic


@flow
def main(topic: str) -> str:
    a = draft(topic, id="one")
    return draft(a, id="one")


main.run("kayaks")
"""
FIXED = (
    SOURCE.replace('"3"', "3")
    .replace('draft(a, id="one")', 'draft(a, id="one_2")')
    .replace('main.run("kayaks")', 'if __name__ == "__main__":\n    main.run("kayaks")')
)

STEPS = """\
from kitaru import checkpoint


@checkpoint(retries="3")
def a(x: int) -> int:
    return x
"""
CALLER = """\
from kitaru import flow
from steps import a


@flow
def main(x: int) -> int:
    return a(x)
"""


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "flow.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_program_can_fix(flow: Path) -> None:
    done = KitaruClient(f"sqlite:{flow.parent}/kitaru.db").fix(str(flow), diff=True)
    assert done.changes[0][1] == FIXED
    assert done.checked.findings == ()


def test_encoding_line_ends_and_permissions_are_kept(flow: Path) -> None:
    text = SOURCE.replace("\n", "\r\n")
    flow.write_bytes(b"\xef\xbb\xbf" + text.encode())
    flow.chmod(0o751)
    fix(locate(str(flow)))
    assert flow.read_bytes() == b"\xef\xbb\xbf" + FIXED.replace("\n", "\r\n").encode()
    assert flow.stat().st_mode & 0o777 == 0o751
    assert [path.name for path in flow.parent.iterdir()] == ["flow.py"]


def test_a_declared_encoding_and_mixed_line_ends_are_kept(flow: Path) -> None:
    head = "# -*- coding: latin-1 -*-\n"
    mixed = (head + SOURCE).replace("topic\n", "topic\r\n")
    flow.write_bytes(mixed.encode("latin-1"))
    fix(locate(str(flow)))
    expected = (head + FIXED).replace("topic\n", "topic\r\n")
    assert flow.read_bytes() == expected.encode("latin-1")


def test_a_file_without_a_last_line_end_stays_so(flow: Path) -> None:
    flow.write_text(SOURCE.removesuffix("\n"), encoding="utf-8")
    fix(locate(str(flow)))
    assert flow.read_text(encoding="utf-8") == FIXED.removesuffix("\n")


def test_a_file_that_changed_meanwhile_is_left_alone(flow: Path) -> None:
    file = read_source(flow)
    flow.write_text(SOURCE + "# more\n", encoding="utf-8")
    with pytest.raises(StateError, match="changed meanwhile"):
        file.write(FIXED)
    assert flow.read_text(encoding="utf-8") == SOURCE + "# more\n"
    assert [path.name for path in flow.parent.iterdir()] == ["flow.py"]


def test_a_file_that_changes_between_check_and_writing_is_left_alone(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(path: Path) -> source_files.SourceFile:
        path.write_text("# other\n" + SOURCE, encoding="utf-8")
        return read_source(path)

    monkeypatch.setattr("kitaru.ops.fix.read_source", late)
    with pytest.raises(StateError, match="nothing was written"):
        fix(locate(str(flow)))
    assert flow.read_text(encoding="utf-8") == "# other\n" + SOURCE


def test_a_link_keeps_pointing_and_its_file_is_fixed(flow: Path) -> None:
    real = flow.with_name("real.py")
    flow.rename(real)
    flow.symlink_to(real)
    fix(locate(str(flow)))
    assert flow.is_symlink()
    assert real.read_text(encoding="utf-8") == FIXED


def test_a_module_that_is_a_link_out_of_the_project_is_left_alone(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (outside / "steps.py").write_text(STEPS, encoding="utf-8")
    (project / "steps.py").symlink_to(outside / "steps.py")
    (project / "flow.py").write_text(CALLER, encoding="utf-8")
    done = fix(locate(str(project / "flow.py")))
    assert [one.code for one in done.checked.findings] == ["KIT413"]
    assert (outside / "steps.py").read_text(encoding="utf-8") == STEPS


def test_a_fix_in_another_module_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS, encoding="utf-8")
    (tmp_path / "flow.py").write_text(CALLER, encoding="utf-8")
    fix(locate(str(tmp_path / "flow.py")))
    assert "retries=3" in (tmp_path / "steps.py").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_an_error_of_the_environment(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("kitaru.ops.source_files.tempfile.mkstemp", refuse)
    with pytest.raises(EnvironmentFailure, match="Cannot write"):
        fix(locate(str(flow)))
    assert flow.read_text(encoding="utf-8") == SOURCE


def test_a_silenced_finding_is_not_fixed(flow: Path) -> None:
    flow.write_text(
        FIXED.replace('    main.run("kayaks")\n', "").replace(
            'if __name__ == "__main__":\n', 'main.run("kayaks")  # kitaru: ignore[KIT507]\n'
        ),
        encoding="utf-8",
    )
    assert fix(locate(str(flow))).changes == ()


def test_a_masked_secret_is_not_written_into_the_file(flow: Path) -> None:
    key = "sk-" + "q7Xw2Zp9Lm4Vb8Nc3Kd6Rf1Ht5"
    flow.write_text(f'api_key = "{key}"\n{SOURCE}', encoding="utf-8")
    fix(locate(str(flow)))
    assert flow.read_text(encoding="utf-8") == f'api_key = "{key}"\n{FIXED}'


def test_a_source_that_was_read_before_needs_no_libcst(flow: Path) -> None:
    flow.write_text(FIXED, encoding="utf-8")

    def run(target: str, expected: str) -> None:
        program = (
            "import sys; from kitaru.cli.app import run\n"
            f"assert run(['compile', {str(flow)!r}, '-t', '{target}', '-o', "
            f"{str(flow.parent)!r}]) == 0\n"
            f"assert {expected} and 'networkx' not in sys.modules\n"
            "assert 'libcst.matchers' not in sys.modules"
        )
        cache = {"KITARU_COMPILE_CACHE": str(flow.parent / "cache")}
        command = [sys.executable, "-c", program]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | cache)

    run("vertex", "'libcst' in sys.modules")
    # Compiled again, for another target, from stored analyses.
    run("kubeflow", "'kitaru_compiler.compile' in sys.modules and 'libcst' not in sys.modules")
    # Not compiled again.
    run("vertex", "'kitaru_compiler.compile' not in sys.modules and 'libcst' not in sys.modules")


def test_only_line_ends_of_python_split_the_lines_of_a_diff(flow: Path) -> None:
    # U+2028, NEL and form feed end a line for `str.splitlines`, not for Python.
    odd = "# a\u2028b\x85c\x0cd"
    flow.write_text(SOURCE.replace("# café", odd), encoding="utf-8")
    done = fix(locate(str(flow)), diff=True)
    assert f"\n+@checkpoint(retries=3)  {odd}\n" in done.diff
    assert "No newline" not in done.diff


def test_many_equal_lines_are_written_at_once(tmp_path: Path) -> None:
    """The comparison of old and new lines was quadratic: minutes for 50,000 lines."""
    path = tmp_path / "long.py"
    body = "A = 1\n" * 50_000
    for end in ("\n", "\r\n"):
        path.write_bytes(f"x = 1\n{body}y = 2{end}".replace("1\n", f"1{end}").encode())
        file = read_source(path)
        changed = file.changed_to(file.text.replace("x = 1", "x = 3"))
        assert changed == file.data.replace(b"x = 1", b"x = 3")
    path.write_bytes(f"x = 1\n{body}y = 2\r\n".encode())
    file = read_source(path)
    assert file.changed_to(file.text.replace("x = 1", "x = 3")).count(b"A = 1\n") == 50_000
