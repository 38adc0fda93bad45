"""What an execution says of the versions of its code."""

from __future__ import annotations

import os

from kitaru import KitaruClient
from kitaru.ops.answer import answer
from tests.versions.matrix import ID, begun, edited, workplace


def test_each_version_of_the_code_is_noted_with_its_process() -> None:
    with workplace() as folder:
        store = begun(folder)
        view = KitaruClient(store).executions.get(ID)
        assert [code["process"] for code in view.codes] == [""]
        edited(folder, (("Ship?", "Ship it?"),))
        assert answer(store, ID, True).handle.wait(60) == "paid alice, from Oslo"
        first, second = KitaruClient(store).executions.get(ID).codes
    assert first["fingerprint"].startswith("sha256:")
    assert first["fingerprint"] != second["fingerprint"]
    assert second["process"] == f"{os.uname().nodename}:{os.getpid()}"


def test_unchanged_code_is_one_version() -> None:
    with workplace() as folder:
        store = begun(folder)
        edited(folder, (("@flow", "# Only a comment.\n@flow"),))
        answer(store, ID, True).handle.wait(60)
        assert len(KitaruClient(store).executions.get(ID).codes) == 1


def test_records_that_nobody_asked_for_are_in_the_data() -> None:
    with workplace() as folder:
        store = begun(folder)
        edited(
            folder,
            (
                ("    way = route(order)\n", ""),
                ("ship(paid, way)", 'ship(paid, Route("Here", "There"))'),
            ),
        )
        answer(store, ID, True).handle.wait(60)
        view = KitaruClient(store).executions.get(ID)
        assert view.unasked == ("route",)
        assert view.to_dict()["unasked"] == ["route"]


def test_secrets_in_arguments_are_not_recorded() -> None:
    source = """\
from kitaru import checkpoint, flow


@checkpoint
def call(api_key: str, options: dict, text: str) -> int:
    return 1


@flow
def main() -> int:
    return call("plain-word", {"password": "another word"}, "AKIAIOSFODNN7ABCD123 is a key")
"""
    from kitaru.runtime.steps.modules import import_file

    with workplace() as folder:
        from typing import Any

        from kitaru.stores.memory import MemoryStore

        file = folder / "secretive.py"
        file.write_text(source)
        module: Any = import_file(file, "secretive")
        store = MemoryStore("memory:secretive")
        module.main.options(store=store, exec_id=ID).run().wait(60)
        (record,) = KitaruClient(store).executions.get(ID).invocations
    assert record.arguments == {
        "api_key": "***",
        "options": {"password": "***"},
        "text": "*** is a key",
    }
