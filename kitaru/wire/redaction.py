"""Find secrets in texts, and hide them in output and records.

Known by value: what `kitaru.secret` returned in this process, and variables of the environment that
are named like secrets, or declared to be some. Known by shape: keys and tokens of well-known
services, whatever stands before `@` in a URL, signatures in its query, and what follows `Bearer`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from math import log2
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from kitaru.wire.chunked_bytes import Part

if TYPE_CHECKING:
    from zipfile import ZipInfo

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
_YAML = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\0": r"\0", "\x85": r"\N", "\xa0": r"\_"}
# As much of compressed bytes is looked at; more would be a bomb.
_MOST_UNPACKED = 16 * 1024 * 1024
# The widths of UTF-16 and UTF-32, and their encodings in both orders of bytes.
_WIDE = {2: ("utf-16-le", "utf-16-be"), 4: ("utf-32-le", "utf-32-be")}


class Known:
    """The values that `kitaru.secret` returned, each in every form in which it may be written.

    A thread may read a secret while another one searches, so what is searched is replaced, never
    changed.
    """

    def __init__(self) -> None:
        self.forms: dict[str, str] = {}
        self._values: set[tuple[str, str]] = set()
        self._shortest: dict[str, str] = {}
        self._encoded: list[tuple[str, bytes, dict[int, bytes]]] = []

    def add(self, name: str, value: str) -> None:
        """Add a value. A value that is known stays as it is."""
        if len(value) < SHORTEST or (name, value) in self._values:
            return
        self._values.add((name, value))
        self.forms = {**self.forms, **dict.fromkeys(_written(value), name)}
        self._shortest = _without_longer(self.forms)
        self._encoded = [
            (form, _encoded(form, "utf-8"), {width: _low_bytes(form, width) for width in _WIDE})
            for form in self._shortest
        ]

    def find_in(self, text: str) -> str:
        """Return the name of a secret that a text contains, or an empty string.

        YAML breaks long texts into lines, also in the middle of a secret.
        """
        texts = (text, *_unfolded(text)) if "\n" in text else (text,)
        forms = self._shortest.items()
        return next((name for each in texts for form, name in forms if form in each), "")

    def find_in_bytes(self, data: bytes) -> str:
        """Return the name of a secret that bytes contain in UTF-8, -16 or -32, or an empty string.

        Each form is searched among all bytes, among every second and among every fourth byte.
        UTF-16 and UTF-32 put the low bytes of a text that far apart, in either order of bytes.
        Only where the low bytes are found is the whole form searched. To search each encoding is
        slow in bytes that are mostly zero, such as numbers and tables, which look like the
        beginning of every text in UTF-32.
        """
        wide = [(width, [data[at::width] for at in range(width)]) for width in _WIDE]
        for form, narrow, low in self._encoded:
            if narrow in data or any(
                any(low[width] in part for part in parts)
                and any(_encoded(form, encoding) in data for encoding in _WIDE[width])
                for width, parts in wide
            ):
                return self._shortest[form]
        return ""


def _without_longer(forms: dict[str, str]) -> dict[str, str]:
    """Return the forms that contain no other form: what contains another contains these."""
    kept: dict[str, str] = {}
    for form in sorted(forms, key=len):
        if not any(each in form for each in kept):
            kept[form] = forms[form]
    return kept


def _unfolded(text: str) -> tuple[str, str]:
    """Return a text with the line breaks undone that YAML adds to long texts, in both styles.

    Within double quotes `\\` ends a line, and another one precedes a space at the beginning of the
    next. Elsewhere a line break stands for a space.
    """
    return re.sub(r"\\\n *(?:\\(?= ))?", "", text), re.sub(r"\n *", " ", text)


def _encoded(form: str, encoding: str) -> bytes:
    return form.encode(encoding, "surrogatepass")


def _low_bytes(form: str, width: int) -> bytes:
    return _encoded(form, _WIDE[width][0])[::width]


_known = Known()
_declared: set[str] = set()


def register_value(name: str, value: str) -> None:
    """Hide `value` from now on, however it is written, wherever this process shows a text."""
    _known.add(name, value)


def register_environment() -> None:
    """Treat as read what the environment has under the name of a secret and looks random."""
    for name, value in os.environ.items():
        if (name in _declared or _is_secret_variable(name)) and is_random(value):
            register_value(name, value)


def register_names(names: Iterable[str]) -> None:
    """Hide from now on what variables of the environment of these names hold."""
    _declared.update(names)


def find_secret_in(text: str) -> str:
    """Return the name of a secret that `kitaru.secret` returned and `text` holds, or nothing."""
    return _known.find_in(text)


def find_secret_in_document(document: Any) -> str:
    """Return the name of a secret that `kitaru.secret` returned and a document holds, or nothing.

    Looks into the values and not at how JSON writes them: texts and names, JSON inside of texts,
    bytes that lie there as base64 or beside the document, and texts in the encodings of numpy.
    """
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if name := find_secret_in(value) or _held_in_base64(value):
                return name
        elif isinstance(value, Part):
            if name := find_secret_in_bytes(value.join()):
                return name
        elif isinstance(value, Mapping):
            pending += [*value.keys(), *value.values()]
            if isinstance(inner := value.get("text"), str) and inner[:1] in ("{", "["):
                with suppress(ValueError, RecursionError):
                    pending.append(json.loads(inner))
        elif isinstance(value, list | tuple):
            pending += value
    return ""


def find_secret_in_bytes(data: bytes) -> str:
    """Return the name of a secret that bytes hold in an encoding of text, or nothing.

    Bytes of zlib and gzip, and the members of a zip archive, are unpacked, up to 16 MiB together.
    """
    found = _known.find_in_bytes(data)
    return found or next(filter(None, map(_known.find_in_bytes, _unpacked(data))), "")


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            # 32 accepts the headers of both zlib and gzip.
            yield zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, _MOST_UNPACKED)
    elif data[:4] == b"PK\x03\x04":
        import zipfile

        room = _MOST_UNPACKED
        with suppress(Exception), zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                unpacked = b""
                with suppress(Exception):
                    unpacked = _member(data, member, room)
                yield unpacked
                room -= len(unpacked)
                if room <= 0:
                    return


def _member(data: bytes, member: ZipInfo, room: int) -> bytes:
    """Return up to `room` bytes of a member of a zip archive.

    `zipfile` unpacks bzip2 and LZMA without a limit: 100 KB may become gigabytes. Other kinds of
    compression are not unpacked.
    """
    import bz2
    import lzma

    start = (
        member.header_offset + 30 + sum(struct.unpack_from("<HH", data, member.header_offset + 26))
    )
    packed = data[start : start + member.compress_size]
    match member.compress_type:
        case 0:
            return packed[:room]
        case 8:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, room)
        case 12:
            return bz2.BZ2Decompressor().decompress(packed, room)
        case 14:
            # A version of two bytes, the size of the properties, and the properties of LZMA 1.
            size, code, dictionary = struct.unpack_from("<HBI", packed, 2)
            properties = {
                "id": lzma.FILTER_LZMA1,
                # The unpacker allocates it at once, and needs no more than it may unpack.
                "dict_size": max(4096, min(dictionary, _MOST_UNPACKED)),
                "lc": code % 9,
                "lp": code // 9 % 5,
                "pb": code // 45,
            }
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[properties])
            return unpacker.decompress(packed[4 + size :], room)
    return b""


def _held_in_base64(text: str) -> str:
    if len(text) < SHORTEST or len(text) % 4 or re.fullmatch(f"[{_B64}]+", text) is None:
        return ""
    try:
        return find_secret_in_bytes(base64.b64decode(text, altchars=b"-_" if "-" in text else None))
    except ValueError:
        return ""


def has_values() -> bool:
    """Return whether `kitaru.secret` returned anything in this process."""
    return bool(_known.forms)


def redacted(text: str) -> str:
    """Return `text` with `***` for each secret in it.

    Example:
        >>> redacted("postgres://me:hunter2@host/db")
        'postgres://me:***@host/db'
    """
    return _redacted(text, _secrets())


def redacted_json(document: Any) -> Any:
    """Return a JSON document with the secrets in its texts and names hidden."""
    secrets = _secrets()
    # Names, digests and statuses come again and again; a text that is hidden once is looked up.
    hide = cache(lambda text: _redacted(text, secrets))

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            return hide(value)
        if isinstance(value, Mapping):
            return {hide(str(name)): hidden(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [hidden(each) for each in value]
        return value

    return hidden(document)


def _secrets() -> list[str]:
    """Return the secrets of this moment as they may be written, the longest first."""
    return sorted({*_known.forms, *_in_environment()}, key=len, reverse=True)


def _redacted(text: str, secrets: Iterable[str]) -> str:
    for value in secrets:
        text = text.replace(value, MASK)
    for shape in _patterns().values():
        text = shape.sub(lambda found: MASK if is_random(found.group()) else found.group(), text)
    for shape in _prefixed():
        text = shape.sub(rf"\g<1>{MASK}", text)
    return text


def kind_of(text: str) -> str:
    """Return which kind of secret a text holds by its shape, such as `a GitHub token`."""
    for kind, shape in _patterns().items():
        match = shape.search(text)
        if match and is_random(match.group()):
            return kind
    return ""


def is_secret_name(name: str) -> bool:
    """Return whether a variable of that name holds a secret, as `OPENAI_API_KEY` does."""
    return re.search(_NAME, name) is not None


def is_random(text: str) -> bool:
    """Return whether a text looks random: letters and digits mixed, no words, no example."""
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
    """Return a secret as JSON, YAML, `repr`, shells, URLs, hex and headers write it."""
    data = value.encode("utf-8", "surrogatepass")
    escaped = json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)
    return {
        value,
        value.strip(),
        *(e[1:-1] for e in escaped),
        # Within single quotes of a shell and of YAML, and within double quotes of YAML.
        value.replace("'", "'\"'\"'"),
        value.replace("'", "''"),
        "".join(map(_in_yaml, value)),
        quote(data, safe=""),
        quote(data),
        quote_plus(data),
        data.hex(),
        data.hex().upper(),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    }


def _in_yaml(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if character.isascii() and character.isprintable():
        return character
    if named := _YAML.get(character):
        return named
    return (
        f"\\x{code:02X}"
        if code < 0x100
        else (f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}")
    )
