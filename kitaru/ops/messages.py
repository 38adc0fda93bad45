"""What a notification contains, in the form that each kind of channel needs.

Texts of flows and models are foreign: the writer of a question could try to forge a mention, a link
or a header. Secrets are replaced, and invisible characters are shown as escapes, as on a terminal.
The forms of Slack and Teams use elements that interpret no markup, and a mail is plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any, Literal

from kitaru.wire.printable import visible
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import Struct, field

Event = Literal["waiting", "escalated", "failed", "cost", "test"]

_MOST_TEXT = 2_000
_MOST_LINE = 150


class Message(Struct):
    """A notification, before it has the form of a channel.

    Attributes:
        id: the same for each try, so that a receiver can recognise a repetition.
        event: what happened.
        at: when it was put together, UTC.
        title: one line.
        text: the question or the error; empty for none.
        facts: further lines, by their labels.
        link: the address of the page; empty if the service has no public address.
        action: what the link is for.
        data: the content of the JSON form.
    """

    id: str
    event: Event
    at: str
    title: str
    text: str
    facts: Mapping[str, str]
    link: str
    action: str
    data: Mapping[str, Any] = field(default_factory=dict)


def shown(text: str) -> str:
    """Return a foreign text as channels may show it."""
    clean = visible(redacted(text)).strip()
    return clean if len(clean) <= _MOST_TEXT else clean[: _MOST_TEXT - 1] + "…"


def shown_line(text: str) -> str:
    """Return a foreign text as one short line."""
    line = " ".join(shown(text).split())
    return line if len(line) <= _MOST_LINE else line[: _MOST_LINE - 1] + "…"


def as_json(message: Message) -> bytes:
    """Return the body of a generic webhook: `{type, timestamp, data}`, as Standard Webhooks say."""
    document = {
        "type": f"execution.{message.event}" if message.event != "test" else "test",
        "timestamp": message.at,
        "data": {**message.data, "title": message.title, "link": message.link},
    }
    return json.dumps(document).encode("ascii")


def for_slack(message: Message) -> bytes:
    """Return the body of an incoming webhook of Slack, in Block Kit.

    `plain_text` has no mentions, links or formatting. `text` is what a phone shows before the
    message is opened, and it is interpreted, so it contains Kitaru's own words only.
    """
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(message.title)}]
    if message.text:
        blocks.append({"type": "section", "text": _plain(message.text)})
    if message.facts:
        lines = "\n".join(f"{label}: {value}" for label, value in message.facts.items())
        blocks.append({"type": "section", "text": _plain(lines)})
    if message.link:
        button = {"type": "button", "text": _plain(message.action), "url": message.link}
        blocks.append({"type": "actions", "elements": [button]})
    return json.dumps({"text": f"Kitaru: {message.event}", "blocks": blocks}).encode("ascii")


def for_teams(message: Message) -> bytes:
    """Return the body of a workflow's webhook of Teams: an Adaptive Card.

    A `TextRun` interprets no Markdown, other than a `TextBlock` or a `FactSet`.
    """
    body = [_run(message.title, weight="Bolder", size="Medium")]
    if message.text:
        body.append(_run(message.text))
    body += [_run(f"{label}: {value}", isSubtle=True) for label, value in message.facts.items()]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    if message.link:
        action = {"type": "Action.OpenUrl", "title": message.action, "url": message.link}
        card["actions"] = [action]
    attached = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return json.dumps({"type": "message", "attachments": [attached]}).encode("ascii")


def as_mail(message: Message, sender: str, to: tuple[str, ...], host: str) -> EmailMessage:
    """Return a mail. It is plain text, and each header is one line."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Subject"] = message.title
    mail["Message-ID"] = f"<{message.id}@{host}>"
    # No automatic reply is wanted.
    mail["Auto-Submitted"] = "auto-generated"
    facts = "\n".join(f"{label}: {value}" for label, value in message.facts.items())
    link = f"{message.action}: {message.link}" if message.link else ""
    mail.set_content("\n\n".join(filter(None, [message.title, message.text, facts, link])) + "\n")
    return mail


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _run(text: str, **style: Any) -> dict[str, Any]:
    # `{{DATE(…)}}` is a function of Teams.
    text = text.replace("{{", "{ {")
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}
