"""Find secrets in strings, and hide them in output and records.

Secrets known by value: the results of `kitaru.secret` in this process, and environment variables
that have the name of a secret or are declared as secrets. Secrets known by shape: keys and tokens
of well-known services, the part before `@` in a URL, signatures in its query, and the value after
`Bearer`.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from math import log2
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from kitaru.wire.chunked_bytes import Part

if TYPE_CHECKING:
    from zipfile import ZipInfo

MASK = "***"
# A shorter value may occur in texts by chance.
SHORTEST = 8
_MIN_BITS_PER_CHARACTER = 3.0
_B64 = "A-Za-z0-9+/=_-"
# Compiled at first use: most processes never print a text.
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
# Secrets that are recognised by the text before them, which stays visible.
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
# Limit for the unpacked size of compressed bytes, against decompression bombs.
_MOST_UNPACKED = 16 * 1024 * 1024
# The widths of UTF-16 and UTF-32, and their encodings in both byte orders.
_WIDE = {2: ("utf-16-le", "utf-16-be"), 4: ("utf-32-le", "utf-32-be")}


class Known:
    """The values that `kitaru.secret` returned, each in all its written forms.

    A thread may add a secret while another thread searches, so the searched collection is
    replaced, never changed.
    """

    def __init__(self) -> None:
        self.forms: dict[str, str] = {}
        self._values: set[tuple[str, str]] = set()
        self._shortest: dict[str, str] = {}
        self._encoded: list[tuple[str, bytes, dict[int, bytes]]] = []

    def add(self, name: str, value: str) -> None:
        """Add a value. A known value is unchanged."""
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
        """Return the name of a secret in a text, or an empty string.

        YAML may break long texts into lines in the middle of a secret.
        """
        texts = (text, *_unfolded(text)) if "\n" in text else (text,)
        forms = self._shortest.items()
        return next((name for each in texts for form, name in forms if form in each), "")

    def find_in_bytes(self, data: bytes) -> str:
        """Return the name of a secret in bytes in UTF-8, -16 or -32, or an empty string.

        Each form is searched among all bytes, every second byte and every fourth byte, because
        UTF-16 and UTF-32 place the low bytes of a text at these distances in either byte order. The
        whole form is searched only if the low bytes are found. A search of each encoding is slow in
        bytes that are mostly zero, such as numbers and tables, because they look like the start of
        every text in UTF-32.
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
    """Return the forms that contain no other form; a longer form contains a returned one."""
    kept: dict[str, str] = {}
    for form in sorted(forms, key=len):
        if not any(each in form for each in kept):
            kept[form] = forms[form]
    return kept


def _unfolded(text: str) -> tuple[str, str]:
    """Return a text without the line breaks that YAML adds to long texts, in both styles.

    Within double quotes, `\\` ends a line, and another `\\` precedes a space at the start of the
    next line. Elsewhere a line break replaces a space.
    """
    return re.sub(r"\\\n *(?:\\(?= ))?", "", text), re.sub(r"\n *", " ", text)


def _encoded(form: str, encoding: str) -> bytes:
    return form.encode(encoding, "surrogatepass")


def _low_bytes(form: str, width: int) -> bytes:
    return _encoded(form, _WIDE[width][0])[::width]


_known = Known()
_declared: set[str] = set()


def register_value(name: str, value: str) -> None:
    """Hide `value` from now on, in all its written forms, in all output of this process."""
    _known.add(name, value)


def register_environment() -> None:
    """Hide environment variables that have the name of a secret and look random."""
    for name, value in os.environ.items():
        if (name in _declared or _is_secret_variable(name)) and is_random(value):
            register_value(name, value)


def register_names(names: Iterable[str]) -> None:
    """Hide the values of the environment variables with these names from now on."""
    _declared.update(names)


def find_secret_in(text: str) -> str:
    """Return the name of a secret of `kitaru.secret` that `text` contains, or ""."""
    return _known.find_in(text)


def find_secret_in_document(document: Any) -> str:
    """Return the name of a secret of `kitaru.secret` that a document contains, or "".

    It searches the values, not their JSON notation: strings and names, JSON inside of strings,
    bytes in base64 or outside of the document, and strings in the encodings of numpy.
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
    """Return the name of a secret that bytes contain in an encoding of text, or "".

    Bytes of zlib and gzip, and the members of a zip archive, are unpacked, up to 16 MiB in total.
    """
    found = _known.find_in_bytes(data)
    return found or next(filter(None, map(_known.find_in_bytes, _unpacked(data))), "")


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            # The value 32 accepts the headers of both zlib and gzip.
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

    `zipfile` unpacks bzip2 and LZMA without a limit: 100 KB may become gigabytes. Other compression
    methods are not unpacked.
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
            # Two bytes of version, the size of the properties, and the properties of LZMA 1.
            size, code, dictionary = struct.unpack_from("<HBI", packed, 2)
            properties = {
                "id": lzma.FILTER_LZMA1,
                # The decompressor allocates it at once, and needs at most the size of its output.
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
    """Return whether `kitaru.secret` has returned a value in this process."""
    return bool(_known.forms)


def redacted(text: str) -> str:
    """Return `text` with `***` for each secret in it.

    Example:
        >>> redacted("postgres://me:hunter2@host/db")
        'postgres://me:***@host/db'
    """
    return redactor()(text)


def begun_at_end(text: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a known secret.

    Example:
        >>> begun_at_end("no secret")
        0
    """
    longest = 0
    for secret in _secrets():
        for length in range(min(len(secret) - 1, len(text)), longest, -1):
            if text.endswith(secret[:length]):
                longest = length
                break
    return longest


def redactor() -> Callable[[str], str]:
    """Return `redacted` for many texts: the secrets are those of now."""
    secrets = _secrets()
    return lambda text: _redacted(text, secrets)


def redacted_json(document: Any) -> Any:
    """Return a JSON document with the secrets in its texts and names hidden."""
    # Names, digests and statuses repeat often, so each text is processed once.
    hide = cache(redactor())

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
    """Return the current secrets in all their written forms, longest first."""
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
    """Return the kind of secret that a text contains by its shape, such as `a GitHub token`."""
    for kind, shape in _patterns().items():
        match = shape.search(text)
        if match and is_random(match.group()):
            return kind
    return ""


def is_secret_name(name: str) -> bool:
    """Return whether a variable name is that of a secret, such as `OPENAI_API_KEY`."""
    return re.search(_NAME, name) is not None


def is_random(text: str) -> bool:
    """Return whether a text looks random: letters and digits mixed, no words, no placeholder."""
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
    # Reading a value takes longer than checking its name, and this runs for each line of output.
    named = [n for n in os.environ if n in _declared or _is_secret_variable(n)]
    values = (os.environ.get(name, "") for name in named)
    return {form for value in values if len(value) >= SHORTEST for form in _written(value)}


@cache
def _is_secret_variable(name: str) -> bool:
    return is_secret_name(name)


def _written(value: str) -> set[str]:
    """Return a secret in the notations of JSON, YAML, `repr`, shells, URLs, hex and headers."""
    data = value.encode("utf-8", "surrogatepass")
    escaped = json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)
    return {
        value,
        value.strip(),
        *(e[1:-1] for e in escaped),
        # In single quotes of a shell, in single quotes of YAML, and in double quotes of YAML.
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
