"""Decides which texts are secrets, and hides them in whatever people or records are shown.

Known by value: what `kitaru.secret` returned in this process, and variables of the environment that
are named like secrets, or declared to be some. Known by shape: keys and tokens of well-known
services, whatever stands before `@` in a URL, signatures in its query, and what follows `Bearer`.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from math import log2
from typing import Any
from urllib.parse import quote

MASK = "***"
# A shorter value is a word that stands in texts by chance.
SHORTEST = 8
_MIN_BITS_PER_CHARACTER = 3.0
_B64 = "A-Za-z0-9+/=_-"
# Compiled when first used: most processes never show a text.
_SHAPES = {
    "a private key": rf"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----\s*[{_B64}]{{16,}}",
    "an API key (`sk-…`)": r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{20,}",
    "a Stripe key": r"(?<![A-Za-z0-9])[rs]k_live_[A-Za-z0-9]{16,}",
    "an AWS access key (`AKIA…`)": r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a GitHub token": (
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"
    ),
    "a GitLab token": r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}",
    "a Slack token": r"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{20,}",
    "a Google API key": r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}",
    "a Hugging Face token": r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}",
}
# What is secret because of what stands before it, which stays.
_AFTER = (
    r"(://[^/\s:@]*:)[^/\s@]+(?=@)",
    r"([?&](?:sig|signature|token|access_token|api_?key|key|password|secret"
    r"|X-Amz-(?:Signature|Credential|Security-Token))=)[^&\s\"'<>]+",
    r"(\bBearer\s+)[A-Za-z0-9._~+/-]{16,}=*",
    r"(\b(?:AccountKey|SharedAccessKey)=)[A-Za-z0-9+/]{20,}=*",
)
_NAME = (
    r"(?i)(?:^|[_-])(?:api_?key|secret(?:_?key)?|(?:access|account|private)_?key|password|passwd"
    r"|(?:(?:auth|access|bearer|refresh|session)_?)?token)$"
)
_PLACEHOLDER = (
    r"(?i)example|placeholder|your|change.?me|dummy|fake|sample|redacted|xxx|\.\.\.|…|\*\*\*"
)
_WORDS = r"(?:[A-Za-z]+|[0-9]+)(?:[-_.]+(?:[A-Za-z]+|[0-9]+))+"
_known: dict[str, str] = {}
_declared: set[str] = set()


def remember(name: str, value: str) -> None:
    """Hide `value` from now on, however it is written, wherever this process shows a text."""
    if len(value) >= SHORTEST:
        _known.update(dict.fromkeys(_written(value), name))


def declare(names: Iterable[str]) -> None:
    """Hide from now on what variables of the environment of these names hold."""
    _declared.update(names)


def held(text: str) -> str:
    """Return the name of a secret that `kitaru.secret` returned and `text` holds, or nothing."""
    return next((name for value, name in _known.items() if value in text), "")


def remembers() -> bool:
    """Say whether `kitaru.secret` returned anything in this process."""
    return bool(_known)


def redacted(text: str) -> str:
    """Return `text` with `***` for each secret in it.

    Example:
        >>> redacted("postgres://me:hunter2@host/db")
        'postgres://me:***@host/db'
    """
    for value in sorted({*_known, *_in_environment()}, key=len, reverse=True):
        text = text.replace(value, MASK)
    for shape in _patterns().values():
        text = shape.sub(lambda found: MASK if is_random(found.group()) else found.group(), text)
    for shape in _prefixed():
        text = shape.sub(rf"\g<1>{MASK}", text)
    return text


def redacted_json(document: Any) -> Any:
    """Return a JSON document with the secrets in its texts and names hidden."""
    if isinstance(document, str):
        return redacted(document)
    if isinstance(document, Mapping):
        return {redacted(str(name)): redacted_json(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [redacted_json(value) for value in document]
    return document


def kind_of(text: str) -> str:
    """Return which kind of secret a text holds by its shape, such as `a GitHub token`."""
    for kind, shape in _patterns().items():
        match = shape.search(text)
        if match and is_random(match.group()):
            return kind
    return ""


def is_secret_name(name: str) -> bool:
    """Say whether a variable of that name holds a secret, as `OPENAI_API_KEY` does."""
    return re.search(_NAME, name) is not None


def is_random(text: str) -> bool:
    """Say whether a text looks drawn at random: letters and digits mixed, no words, no example."""
    if re.search(_PLACEHOLDER, text) or re.fullmatch(_WORDS, text):
        return False
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return mixed and _bits_per_character(text) >= _MIN_BITS_PER_CHARACTER


def _bits_per_character(text: str) -> float:
    counts = Counter(text).values()
    return -sum(n / len(text) * log2(n / len(text)) for n in counts)


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {kind: re.compile(shape) for kind, shape in _SHAPES.items()}


@cache
def _prefixed() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(shape, re.IGNORECASE) for shape in _AFTER)


def _in_environment() -> set[str]:
    named = (
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST and (name in _declared or _is_secret_variable(name))
    )
    return {form for value in named for form in _written(value)}


@cache
def _is_secret_variable(name: str) -> bool:
    return is_secret_name(name)


def _written(value: str) -> set[str]:
    """Return a secret as JSON, `repr`, a URL and an authorization header write it."""
    data = value.encode("utf-8", "surrogatepass")
    escaped = json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value)
    whole = base64.b64encode(data).decode()
    return {value, value.strip(), *(e[1:-1] for e in escaped), quote(data, safe=""), whole}
