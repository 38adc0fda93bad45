"""The language server over stdio, with a real client."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

pytest.importorskip("pygls")

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from kitaru.ops.last_execution import last_execution
from tests.cli.conftest import Kitaru

# A bound for a machine that is busy; nothing waits so long when it passes.
LONG = 120
# How often findings of earlier versions may come before those that are asked for.
MOST = 10
FLOW = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint(retries=2)
def draft(topic: str) -> str:
    return topic


@flow
def main(topic: str, n: int) -> str:
    a = draft("😀", id="one") + draft(topic, id="one")
    while n > len(a):
        a = draft(a)
    ok = kitaru.wait(name="ok", schema=bool)
    return a if ok else ""
"""
FIXED = FLOW.replace('topic, id="one"', 'topic, id="one_2"')


class Editor:
    """A client with one open document."""

    def __init__(self, client: LanguageClient, path: Path) -> None:
        self.client = client
        self.uri = path.as_uri()
        self.refreshed = asyncio.Event()
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.published: asyncio.Queue[types.PublishDiagnosticsParams] = asyncio.Queue()

        @client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def published(_: LanguageClient, given: types.PublishDiagnosticsParams) -> None:
            self.published.put_nowait(given)

        @client.feature(types.WORKSPACE_CODE_LENS_REFRESH)
        def refresh(_: LanguageClient, given: None) -> None:
            self.refreshed.set()

        @client.feature(types.WINDOW_SHOW_MESSAGE)
        def message(_: LanguageClient, given: types.ShowMessageParams) -> None:
            self.messages.put_nowait(given.message)

    def open(self, text: str) -> None:
        document = types.TextDocumentItem(self.uri, "python", 1, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(document))

    def change(self, version: int, text: str) -> None:
        document = types.VersionedTextDocumentIdentifier(version, self.uri)
        whole = types.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [whole]))

    async def diagnostics(self, version: int) -> list[types.Diagnostic]:
        for _ in range(MOST):
            found = await asyncio.wait_for(self.published.get(), LONG)
            if found.version == version:
                return list(found.diagnostics)
        raise AssertionError(f"no findings of version {version}")

    @property
    def document(self) -> types.TextDocumentIdentifier:
        return types.TextDocumentIdentifier(self.uri)

    async def hover(self, line: int) -> str:
        place = types.Position(line - 1, 4)
        found = await self.client.text_document_hover_async(types.HoverParams(self.document, place))
        if found is None:
            return ""
        assert isinstance(found.contents, types.MarkupContent)
        return found.contents.value

    async def lenses(self, of: str = "") -> dict[int, str]:
        found = await self.client.text_document_code_lens_async(types.CodeLensParams(self.document))
        return {
            one.range.start.line + 1: one.command.title
            for one in found or ()
            if one.command and one.command.title.startswith(of)
        }

    async def actions(self, at: types.Diagnostic) -> list[types.CodeAction]:
        context = types.CodeActionContext([at])
        found = await self.client.text_document_code_action_async(
            types.CodeActionParams(self.document, at.range, context)
        )
        return [one for one in found or () if isinstance(one, types.CodeAction)]


def in_editor(path: Path, scenario: Callable[[Editor], Awaitable[None]], *options: str) -> None:
    async def run() -> None:
        client = LanguageClient("tests", "1")
        editor = Editor(client, path)
        await client.start_io(sys.executable, "-m", "kitaru", "lsp", *options)
        try:
            given = types.InitializeParams(capabilities=types.ClientCapabilities())
            await asyncio.wait_for(client.initialize_async(given), LONG)
            client.initialized(types.InitializedParams())
            try:
                await asyncio.wait_for(scenario(editor), LONG)
            finally:
                # A server that is not asked to exit would be waited for.
                await asyncio.wait_for(client.shutdown_async(None), LONG)
                client.exit(None)
        finally:
            await client.stop()

    asyncio.run(run())


def test_the_last_execution_is_shown_where_its_calls_still_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = tmp_path / "flow.py", f"sqlite:{tmp_path}/kitaru.db"
    path.write_text(RUN, encoding="utf-8")
    monkeypatch.setenv("KITARU_STORE", store)
    monkeypatch.chdir(tmp_path)
    assert last_execution(path, "main") == []
    assert not (tmp_path / "kitaru.db").exists()
    Kitaru(tmp_path)("run", str(path), "--input", "topic=`x`", "--store", store)

    async def scenario(editor: Editor) -> None:
        editor.open(RUN)
        await editor.diagnostics(1)
        # The store is read in the background, and the client asks again.
        if not (found := await editor.lenses(of="last execution")):
            await asyncio.wait_for(editor.refreshed.wait(), LONG)
            found = await editor.lenses(of="last execution")
        assert list(found) == [11] and found[11].startswith("last execution: completed, ")
        hover = await editor.hover(11)
        assert 'Result: `` "`x`" ``' in hover and "kitaru executions get" in hover
        shown = types.ExecuteCommandParams("kitaru.showRecord", [hover])
        await editor.client.workspace_execute_command_async(shown)
        assert await asyncio.wait_for(editor.messages.get(), LONG) == hover
        # A line above moves the calls away from their records.
        editor.change(2, f"# new\n{RUN}")
        await editor.diagnostics(2)
        assert await editor.lenses(of="last execution") == {}

    in_editor(path, scenario)


@pytest.mark.parametrize("topic", ["plain", "`", "``", "a```b`", "[x](command:y)` <b>"])
def test_a_recorded_value_stays_in_its_code_span(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = tmp_path / "flow.py", f"sqlite:{tmp_path}/kitaru.db"
    path.write_text(RUN, encoding="utf-8")
    monkeypatch.setenv("KITARU_STORE", store)
    Kitaru(tmp_path)("run", str(path), "--input", f"topic={topic}", "--store", store)
    [recorded] = last_execution(path, "main")
    [line] = [one for one in recorded.text.split("\n") if one.startswith("Result: ")]
    fence, shown, end = line.removeprefix("Result: ").partition(f' "{topic}" ')
    assert shown and fence == end and set(fence) == {"`"}
    assert fence not in re.findall("`+", topic)


RUN = """\
from kitaru import checkpoint, flow


@checkpoint
def draft(topic: str) -> str:
    return topic


@flow
def main(topic: str) -> str:
    return draft(topic)
"""


def applied(text: str, edits: list[types.TextEdit]) -> str:
    lines = io.StringIO(text).readlines()
    for edit in reversed(edits):
        start, end = edit.range.start, edit.range.end
        assert (start.character, end.character) == (0, 0)
        lines[start.line : end.line] = [edit.new_text]
    return "".join(lines)


def test_an_unsaved_buffer_is_checked_explained_and_fixed(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text("# what is on disk does not count\n", encoding="utf-8")

    async def scenario(editor: Editor) -> None:
        editor.open(FLOW)
        (found,) = await editor.diagnostics(1)
        assert (found.code, found.severity) == ("KIT604", types.DiagnosticSeverity.Error)
        # In UTF-16 units, of which the emoji takes two.
        line = FLOW.split("\n")[11]
        column = len(line[: line.rindex('"one"')].encode("utf-16-le")) // 2
        assert (found.range.start.line, found.range.start.character) == (11, column)
        (action,) = await editor.actions(found)
        assert action.title.startswith("KIT604: ")
        assert action.is_preferred and list(action.diagnostics or ()) == [found]
        assert action.edit is not None and action.edit.changes is not None
        assert applied(FLOW, list(action.edit.changes[editor.uri])) == FIXED

        editor.change(2, FIXED)
        (note,) = await editor.diagnostics(2)
        assert (note.code, note.severity) == ("KIT310", types.DiagnosticSeverity.Information)
        lenses = await editor.lenses()
        assert lenses[13] == "region: KIT310, 1 call in one step"
        assert lenses[15] == "wait ok"
        assert "step draft" in lenses[12]
        assert "KIT310" in await editor.hover(14)
        assert "2 retries" in await editor.hover(12)
        assert await editor.hover(1) == ""

        editor.change(3, FIXED.replace("return a if ok", "return ("))
        (error,) = await editor.diagnostics(3)
        assert error.code == "KIT101"
        assert await editor.lenses() == {}

        editor.change(4, "print('nothing of Kitaru')\n")
        assert await editor.diagnostics(4) == []

    in_editor(path, scenario)
    assert path.read_text(encoding="utf-8") == "# what is on disk does not count\n"


def test_a_target_adds_what_a_container_costs(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text(FIXED, encoding="utf-8")

    async def scenario(editor: Editor) -> None:
        editor.open(FIXED)
        await editor.diagnostics(1)
        assert "One container on vertex: starts in about" in await editor.hover(12)

    in_editor(path, scenario, "--target", "vertex")


def test_only_line_ends_of_the_protocol_are_counted(tmp_path: Path) -> None:
    # U+2028 and form feed end a line for `str.splitlines`, not for Python or an editor.
    text = f"# a\u2028b\x0cc\n{TYPING}"
    path = tmp_path / "flow.py"
    path.write_text(text, encoding="utf-8")

    async def scenario(editor: Editor) -> None:
        editor.open(text)
        [finding] = [one for one in await editor.diagnostics(1) if one.code == "KIT413"]
        assert text.split("\n")[finding.range.start.line].startswith("@checkpoint")
        [action] = await editor.actions(finding)
        assert action.edit is not None and action.edit.changes is not None
        fixed = applied(text, list(action.edit.changes[editor.uri]))
        assert fixed == text.replace('"3"', "3")

    in_editor(path, scenario)


TYPING = """\
from kitaru import checkpoint, flow


@checkpoint(retries="3")
def draft(topic: str) -> str:
    return topic


@flow
def main(topic: str) -> str:
    return draft(topic)
"""
