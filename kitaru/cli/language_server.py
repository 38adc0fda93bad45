"""The language server: what `kitaru.ops.editor` finds, in the words of the protocol.

pygls speaks the protocol. Checks run a moment after the last change, so that typing is not slowed.
"""

from __future__ import annotations

import asyncio
import difflib
import io
from pathlib import Path

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path

from kitaru.ops.editor import Document, Place, QuickFix
from kitaru.ops.last_execution import Recorded, last_execution, still_at
from kitaru.version import VERSION
from kitaru.wire.plan import Span

PAUSE = 0.2
# The store is read at most this often, in seconds.
RELOAD = 2.0
SHOW_RECORD = "kitaru.showRecord"
_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}


class Server(LanguageServer):
    """The server, with the documents of the last checks."""

    def __init__(self, target: str) -> None:
        # pygls applies partial changes to lines as `str.splitlines` counts them.
        whole = types.TextDocumentSyncKind.Full
        super().__init__("kitaru", VERSION, text_document_sync_kind=whole)
        self.target = target
        self._known: dict[str, Document] = {}
        # One list for each flow.
        self._recorded: dict[str, list[list[Recorded]]] = {}
        self._reading: dict[str, float] = {}

    def document(self, uri: str) -> Document:
        """Return the document as it is in the editor."""
        source = self.workspace.get_text_document(uri).source
        # The compiler reads line ends as Python does.
        text = source.replace("\r\n", "\n").replace("\r", "\n")
        known = self._known.get(uri)
        if known is None or known.text != text:
            path = Path(to_fs_path(uri) or "untitled.py")
            known = Document(path, text, self.target)
            self._known[uri] = known
        return known

    def recorded(self, uri: str) -> list[Recorded]:
        """Return what the last executions recorded, as known, if its calls are still there."""
        text = self.document(uri).text
        known = self._recorded.get(uri, [])
        return [one for recorded in known if still_at(recorded, text) for one in recorded]

    async def read_store(self, uri: str) -> None:
        """Read the last executions in another thread; the client is notified of changes.

        Without a change of what is shown, the client asks no more, so this ends.
        """
        now = asyncio.get_running_loop().time()
        if now < self._reading.get(uri, now):
            return
        self._reading[uri] = now + RELOAD
        document = self.document(uri)
        path, flows = document.path.resolve(), document.flows
        found = [await asyncio.to_thread(last_execution, path, flow) for flow in flows]
        if found != self._recorded.get(uri, []):
            self._recorded[uri] = found
            self.workspace_code_lens_refresh(None)

    def range_of(self, uri: str, span: Span) -> types.Range:
        """Return a span as the client counts: lines from 0, columns in its own units."""
        place = types.Range(
            types.Position(span.line - 1, span.column - 1),
            types.Position(span.end_line - 1, span.end_column - 1),
        )
        codec = self.workspace.get_text_document(uri).position_codec
        return codec.range_to_client_units(_split(self.document(uri).text), place)

    def publish(self, uri: str) -> None:
        """Send the findings of a document."""
        version = self.workspace.get_text_document(uri).version
        listed = [
            types.Diagnostic(
                range=self.range_of(uri, one.span),
                message=one.message + (f"\nhelp: {one.help}" if one.help else ""),
                severity=_SEVERITIES[one.severity],
                code=one.code,
                source="kitaru",
            )
            for one in self.document(uri).findings
        ]
        self.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=uri, diagnostics=listed, version=version)
        )


def make_server(target: str = "") -> Server:
    """Return a server with all its features; flows are cut for `target`, by default for any."""
    server = Server(target)
    tasks = set[asyncio.Task[None]]()

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: Server, given: types.DidOpenTextDocumentParams) -> None:
        ls.publish(given.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(ls: Server, given: types.DidSaveTextDocumentParams) -> None:
        ls.publish(given.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(ls: Server, given: types.DidChangeTextDocumentParams) -> None:
        uri = given.text_document.uri
        await asyncio.sleep(PAUSE)
        open_now = ls.workspace.text_documents.get(uri)
        if open_now is not None and open_now.version == given.text_document.version:
            ls.publish(uri)
            ls.workspace_code_lens_refresh(None)

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def hover(ls: Server, given: types.HoverParams) -> types.Hover | None:
        line = given.position.line + 1
        place = ls.document(given.text_document.uri).place_at(line)
        recorded = [one for one in ls.recorded(given.text_document.uri) if one.line == line]
        texts = [one.text for one in ([place] if place else []) + recorded]
        if not texts:
            return None
        text = types.MarkupContent(types.MarkupKind.Markdown, "\n\n".join(texts))
        lines = _lines(place.line, place.end_line) if place else _lines(line, line)
        return types.Hover(text, lines)

    @server.feature(types.TEXT_DOCUMENT_CODE_LENS)
    async def lenses(ls: Server, given: types.CodeLensParams) -> list[types.CodeLens]:
        uri = given.text_document.uri
        places = [_lens(place) for place in ls.document(uri).places]
        # The store may be slow: what it says comes with a later request.
        reading = asyncio.create_task(ls.read_store(uri))
        tasks.add(reading)
        reading.add_done_callback(tasks.discard)
        return places + [_record_lens(one) for one in ls.recorded(uri)]

    @server.command(SHOW_RECORD)
    def show_record(ls: Server, text: str) -> None:
        ls.window_show_message(types.ShowMessageParams(types.MessageType.Info, text))

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
    )
    def actions(ls: Server, given: types.CodeActionParams) -> list[types.CodeAction]:
        document = ls.document(given.text_document.uri)
        line = given.range.start.line + 1
        return [_action(ls, given, document, fix) for fix in document.fixes(line)]

    return server


def _lines(line: int, end_line: int) -> types.Range:
    return types.Range(types.Position(line - 1, 0), types.Position(end_line, 0))


def _lens(place: Place) -> types.CodeLens:
    # A command without a name is a text that cannot be clicked.
    command = types.Command(title=place.title, command="")
    return types.CodeLens(range=_lines(place.line, place.line), command=command)


def _record_lens(recorded: Recorded) -> types.CodeLens:
    title = f"last execution: {recorded.title}"
    command = types.Command(title=title, command=SHOW_RECORD, arguments=[recorded.text])
    return types.CodeLens(range=_lines(recorded.line, recorded.line), command=command)


def _action(
    ls: Server, given: types.CodeActionParams, document: Document, fix: QuickFix
) -> types.CodeAction:
    rule = fix.finding.rule
    assert rule.fix is not None
    kind = "" if rule.fix.is_safe else " (may change the meaning)"
    own = fix.path == document.path.resolve()
    uri = given.text_document.uri if own else from_fs_path(str(fix.path)) or ""
    place = ls.range_of(given.text_document.uri, fix.finding.span)
    about = [d for d in given.context.diagnostics if d.code == rule.code and d.range == place]
    return types.CodeAction(
        title=f"{rule.code}: {rule.fix.what}{kind}",
        kind=types.CodeActionKind.QuickFix,
        diagnostics=about,
        is_preferred=rule.fix.is_safe,
        edit=types.WorkspaceEdit(changes={uri: edits(document.text, fix.text)}),
    )


def edits(before: str, after: str) -> list[types.TextEdit]:
    """Return the changes of whole lines that turn one text into another."""
    old, new = _split(before), _split(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        types.TextEdit(
            types.Range(types.Position(first, 0), types.Position(last, 0)),
            "".join(new[start:end]),
        )
        for tag, first, last, start, end in matcher.get_opcodes()
        if tag != "equal"
    ]


def _split(text: str) -> list[str]:
    """Return the lines as Python and the protocol count them: `splitlines` finds more."""
    return io.StringIO(text).readlines()
