"""A secret in the source is an error, and is shown nowhere; what only looks like one is no finding.

The secrets here are put together at run time: written out, they would be findings themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_compiler.diagnostics.render import render, to_json

RANDOM = "q7Xw2Zp9Lm4Vb8Nc3Kd6Rf1Ht5"
FLOW = "from kitaru import checkpoint, flow\n@flow\ndef main(): return 1\n"
SECRETS = [
    "sk-" + RANDOM,
    "sk-proj-" + RANDOM,
    "AKIA" + "QX7Z3MPLT5WVB2NC",
    "ghp_" + RANDOM + "Jy0Gs2Ua4E",
    "xoxb-" + RANDOM,
    "AIza" + RANDOM + "q_w-E3rT9",
    "hf_" + RANDOM + "Jy0Gs",
    "-----BEGIN " + "RSA PRIVATE KEY-----\\n" + RANDOM,
]
NAMED = [
    'api_key = "{}"',
    'OPENAI_API_KEY: str = "{}"',
    'os.environ["OPENAI_API_KEY"] = "{}"',
    'settings = {{"password": "{}"}}',
    'client = dict(token="{}")',
    'def connect(*, auth_token="{}"): ...',
]
HARMLESS = [
    'api_key = os.environ["API_KEY"]',
    'api_key = "changeme-changeme-1"',
    'api_key = "your-key-here-1234567"',
    'secret = "projects/12/secrets/key/versions/1"',
    'secret_key = "prod-openai-key-2"',
    'password = "swordfish"',
    'PAD_TOKEN = "<|endoftext|>"',
    'token = "a sentence of several words 1"',
    'model = "sk-learn-classifier-2024-version"',
    'digest = "q7Xw2Zp9Lm4Vb8Nc3Kd6Rf1Ht5"',
    'key = "AKIA" "IOSFODNN7EXAMPLE"',
    'marker = "-----BEGIN PRIVATE KEY-----"',
    '"""A docstring, not a key."""',
]


def write(folder: Path, line: str) -> Path:
    path = folder / "flow.py"
    path.write_text(f"import os\n{line}\n{FLOW}", encoding="utf-8")
    return path


def shown(path: Path) -> list[str]:
    """Everything that `check` and `compile` would put on a screen or in a document."""
    diagnostics, sources, *_ = check(path)
    with pytest.raises(SourceError) as caught:
        compile_flow(path)
    error = caught.value
    return [
        render(diagnostics, sources),
        json.dumps([to_json(d) for d in diagnostics]),
        render(error.diagnostics, error.sources),
        str(error),
    ]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_a_well_known_shape_is_found_and_never_shown(secret: str, tmp_path: Path) -> None:
    path = write(tmp_path, f'value = call("{secret}")')
    (found,) = check(path)[0]
    assert (found.code, found.severity) == ("KIT108", "error")
    assert (found.span.line, found.span.column) == (2, len("value = call(") + 1)
    for text in shown(path):
        assert "KIT108" in text
        assert RANDOM not in text and secret not in text


@pytest.mark.parametrize("template", NAMED)
def test_a_long_value_of_a_telling_name_is_found_and_never_shown(
    template: str, tmp_path: Path
) -> None:
    path = write(tmp_path, template.format(RANDOM))
    (found,) = check(path)[0]
    assert (found.code, found.span.line) == ("KIT108", 2)
    assert found.span.column == template.replace("{{", "{").index('"{}"') + 1
    assert all(RANDOM not in text for text in shown(path))


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_secret_is_left_alone(line: str, tmp_path: Path) -> None:
    assert check(write(tmp_path, line))[0] == ()


def test_a_secret_over_several_lines_is_masked_on_all_of_them(tmp_path: Path) -> None:
    body = f"-----BEGIN PRIVATE KEY-----\n{RANDOM}\n-----END"
    path = write(tmp_path, f'key = """{body}"""')
    diagnostics, sources, *_ = check(path)
    assert [d.code for d in diagnostics] == ["KIT108"]
    lines = sources["flow.py"].split("\n")
    assert lines[1:4] == ["key = " + "*" * 30, "*" * len(RANDOM), "*" * 11]
    assert lines[4] == FLOW.split("\n")[0]


def test_a_secret_in_an_imported_file_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(f'TOKEN = "{RANDOM}"\n')
    path = write(tmp_path, "import settings")
    (found,) = check(path)[0]
    assert (found.code, found.span.file, found.span.line) == ("KIT108", "settings.py", 1)
    assert all(RANDOM not in text for text in shown(path))
