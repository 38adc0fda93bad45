"""A build of which any byte was changed ends a command with an error of Kitaru, or not at all."""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any

import pytest
from kitaru_targets import bundle, lock

from kitaru.errors import StateError, UsageError
from kitaru.wire.canonical import sha256

from .mutations import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize(
    ("file", "step"), [("lock.json", 211), ("plan.json", 401), ("bundle.zip", 397), ("", 20_011)]
)
def test_a_changed_byte_is_an_error_with_a_message(bench: Bench, file: str, step: int) -> None:
    for case in bench.cases(step):
        if file in ("", case.file):
            bench.apply(case)
            for command in bench.commands():
                assert bench.violation(command) == "", (case, command)


BROKEN: dict[str, Any] = {
    "nothing": b"",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "large": b" " * (lock.MAX_JSON_BYTES + 1),
    "older": {"schema": 0},
    "newer": {"schema": 99},
    "another type": {"image": 3},
    "a path": {"files": {"../../etc/passwd": "sha256:" + "0" * 64}},
    "no digest": {"files": {"plan.json": "x"}},
    "an unknown target": {"target": "nowhere"},
    "an unknown delivery": {"delivery": "pigeon"},
    "another flow": {"flow": "other"},
    "an image with a line": {"image": "a/b\nRUN curl evil"},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_lock(bench: Bench, how: str) -> None:
    change, files = BROKEN[how], dict(bench.files)
    content = {**json.loads(files["lock.json"]), **change} if isinstance(change, dict) else {}
    files["lock.json"] = json.dumps(content).encode() if content else change
    bench.write(files)
    for command in (*bench.commands(), *bench.slow_commands()):
        assert bench.violation(command) == "", command


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "device"])
def test_a_file_that_is_none(bench: Bench, kind: str) -> None:
    bench.write(bench.files)
    path = bench.folder / "copy" / "plan.json"
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(bench.folder / "made" / "plan.json")
        case "device":
            path.symlink_to("/dev/zero")
    for command in bench.commands():
        assert bench.violation(command) == "", command
    with pytest.raises(StateError, match=r"plan\.json"):
        lock.read_file(bench.folder / "copy", "plan.json")


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as target:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            target.writestr(info, data, compress_type=method)
    return made.getvalue()


def overlapping() -> bytes:
    """Return an archive whose directory names one member many times: the bomb without nesting."""
    with zipfile.ZipFile(made := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("zeros", bytes(1 << 20))
        info = target.getinfo("zeros")
        for number in range(2_000):
            copy = zipfile.ZipInfo(f"zeros{number}")
            for name in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(copy, name, getattr(info, name))
            target.filelist.append(copy)
    return made.getvalue()


def lying() -> bytes:
    """Return an archive whose directory says that a large member is small."""
    data = bytearray(archive({"zeros": bytes(1 << 20)}))
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    return bytes(data)


BOMBS = {
    "zeros": lambda: archive({"zeros": bytes(bundle.MAX_BYTES + 1)}),
    "many files": lambda: archive(dict.fromkeys(map(str, range(bundle.MAX_FILES + 1)), b"")),
    "overlapping": overlapping,
    "lying": lying,
    "lzma": lambda: archive({"zeros": bytes(1 << 20)}, zipfile.ZIP_LZMA),
    "bzip2": lambda: archive({"zeros": bytes(1 << 20)}, zipfile.ZIP_BZIP2),
    "deep": lambda: archive({"a/" * bundle.MAX_DEPTH + "b": b""}),
    "parent": lambda: archive({"a/../../b": b""}),
    "absolute": lambda: archive({"/b": b""}),
    "backslash": lambda: archive({"..\\b": b""}),
    "link": lambda: archive({"b": b"/etc/passwd"}, mode=0o120777),
    "device": lambda: archive({"b": b""}, mode=0o020666),
    "no archive": lambda: b"PK",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_archive_that_must_not_be_unpacked(bench: Bench, bomb: str) -> None:
    data = BOMBS[bomb]()
    with pytest.raises(StateError, match="The bundle is damaged"):
        bundle.contents(data)
    files = {**bench.files, "bundle.zip": data}
    locked = json.loads(files["lock.json"])
    locked["files"]["bundle.zip"] = sha256(data)
    files["lock.json"] = json.dumps(locked).encode()
    bench.write(files)
    for command in bench.commands():
        assert bench.violation(command) == "", command


def test_what_no_step_could_unpack_is_not_written() -> None:
    for project in (
        {"large.csv": bytes(bundle.MAX_BYTES + 1)},
        dict.fromkeys((f"{n}.txt" for n in range(bundle.MAX_FILES + 1)), b""),
        {"a/" * bundle.MAX_DEPTH + "b": b""},
    ):
        with pytest.raises(UsageError, match="a step unpacks"):
            bundle.make(project, {}, with_runtime=False)
