"""Models that code names: which libraries a step installs, and which calls stay open."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_targets.delivery import LITELLM, OPENAI, requirements

HEAD = """\
import os
import functools
import kitaru
from kitaru import checkpoint, flow, llm, memory
import settings

MODEL = "anthropic/claude-x"
SIZES = {"small": "gpt-x", "large": "gemini/gemini-x"}

"""
CLAUDE = "anthropic/claude-x"
BOTH, DIRECT, NOTHING = {*OPENAI, LITELLM}, set(OPENAI), set[str]()
# A flow, the models that it names, and what reaches them.
PROGRAMS = {
    "literal": ("return llm(topic, model='anthropic/claude-x')", [CLAUDE], BOTH),
    "attribute": ("return kitaru.llm(topic, model='gpt-x')", ["gpt-x"], DIRECT),
    "constant": ("return llm(topic, model=MODEL)", [CLAUDE], BOTH),
    "of another module": ("return llm(topic, model=settings.MODEL)", ["openai/gpt-y"], DIRECT),
    "table": ("return llm(topic, model=SIZES[topic])", ["gemini/gemini-x", "gpt-x"], BOTH),
    "get of a table": (
        "return llm(topic, model=SIZES.get(topic, 'o3'))", ["gemini/gemini-x", "gpt-x", "o3"], BOTH,
    ),
    "either": ("return llm(topic, model='gpt-x' if topic else 'fast')", ["fast", "gpt-x"], DIRECT),
    "or": ("return llm(topic, model=None or 'cohere/c')", ["cohere/c", "fast"], BOTH),
    "variable": ("m = 'gpt-x'\n    if topic:\n        m = MODEL\n    return llm(topic, model=m)",
                 [CLAUDE, "gpt-x"], BOTH),
    "loop": ("for m in ['gpt-x', 'mistral/m']:\n        llm(topic, model=m)\n    return ''",
             ["gpt-x", "mistral/m"], BOTH),
    "f-string": ("return llm(topic, model=f'anthropic/{topic}')", ["anthropic/*"], BOTH),
    "f-string of a constant": ("p = 'openai'\n    return llm(topic, model=f'{p}/{topic}')",
                               ["openai/*"], DIRECT),
    "sum": ("return llm(topic, model='bedrock/' + topic)", ["bedrock/*"], BOTH),
    "parameter": ("return ask(topic, 'gemini/g')", ["gemini/g", "gpt-x"], BOTH),
    "parameter by name": ("return ask(topic, model=MODEL)", [CLAUDE, "gpt-x"], BOTH),
    "submitted": ("return ask.submit(topic, MODEL).result()", [CLAUDE, "gpt-x"], BOTH),
    "mapped": ("return ask.map([topic], ['azure/a']).result()", ["azure/a", "gpt-x"], BOTH),
    "method": ("return Agent().ask(topic, model='xai/grok')", ["gpt-x", "xai/grok"], BOTH),
    "partial": ("return functools.partial(llm, model='groq/g')(topic)", ["groq/g"], BOTH),
    "options": ("more = {'model': 'groq/g'}\n    return llm(topic, **more)", ["groq/g"], BOTH),
    "compaction": ("memory.compact('k', model=MODEL)\n    return ''", [CLAUDE], BOTH),
    "default": ("return llm(topic)", ["fast"], NOTHING),
    "alias": ("return llm(topic, model='smart')", ["smart"], NOTHING),
    "offline": ("return llm(topic, model='offline')", ["offline"], NOTHING),
    "none": ("return topic", [], NOTHING),
}  # fmt: skip
HELPERS = """
{decorator}
def ask(topic: str, model: str = "gpt-x") -> str:
    return llm(topic, model=model)

class Agent:
    def ask(self, topic: str, model: str = "gpt-x") -> str:
        return llm(topic, model=model)
"""
OPEN = {
    "input": "return llm(topic, model=topic)",
    "environment": "return llm(topic, model=os.environ['MODEL'])",
    "environment with a default": "return llm(topic, model=os.environ.get('MODEL', 'gpt-x'))",
    "function": "return llm(topic, model=str(topic))",
    "unpacked": "return llm(topic, **settings.options())",
    "text that begins with it": "return llm(topic, model=f'{topic}/large')",
}


def program(tmp_path: Path, body: str, decorator: str = "@checkpoint") -> Path:
    uses = any(name in body for name in ("ask", "Agent"))
    helpers = HELPERS.replace("{decorator}", decorator) if uses else ""
    if uses and "Agent" not in body:
        helpers = helpers.partition("class ")[0]
    elif uses:
        helpers = "\nclass " + helpers.partition("class ")[2]
    (tmp_path / "settings.py").write_text("MODEL: str = 'openai/gpt-y'\ndef options(): return {}\n")
    path = tmp_path / "program.py"
    path.write_text(f"{HEAD}{helpers}\n@flow\ndef main(topic: str) -> str:\n    {body}\n")
    return path


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_installs_what_reaches_the_models_that_code_names(name: str, tmp_path: Path) -> None:
    body, models, pins = PROGRAMS[name]
    path = program(tmp_path, body)
    plan = compile_flow(path).plan
    assert list(plan.asked) == models
    # Options that are not known here may hold any schema, for which a step needs its library.
    others = ("obstore", "jsonschema-rs") if name == "options" else ("obstore",)
    assert {pin for pin in requirements(plan) if not pin.startswith(others)} == pins
    assert "KIT508" not in [one.code for one in check(path)[0]]


@pytest.mark.parametrize("name", OPEN)
def test_a_model_that_the_source_does_not_show_is_noted(name: str, tmp_path: Path) -> None:
    path = program(tmp_path, OPEN[name])
    (note,) = [one for one in check(path)[0] if one.code == "KIT508"]
    assert path.read_text().splitlines()[note.span.line - 1].strip() == OPEN[name]
    assert "KIT508" in [one.code for one in compile_flow(path).diagnostics]


@pytest.mark.parametrize(
    "reached",
    [
        ("requirements.txt", "litellm==1.106.2\n"),
        ("pyproject.toml", '[tool.kitaru.models]\nsmart = "anthropic/claude-x"\n'),
        ("pyproject.toml", '[tool.kitaru]\ndefault_model = "anthropic/claude-x"\n'),
    ],
)
def test_nothing_is_noted_where_steps_have_litellm(
    reached: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / reached[0]).write_text(reached[1])
    path = program(tmp_path, "return llm(topic, model=topic) + llm(topic)")
    assert "KIT508" not in [one.code for one in check(path)[0]]
    assert LITELLM in requirements(compile_flow(path).plan)


def test_aliases_are_followed_to_their_models(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(dedent("""\
        [tool.kitaru.models]
        round = "circle"
        circle = "round"
        [tool.kitaru.environment]
        KITARU_DEFAULT_MODEL = "gpt-x"
    """))  # fmt: skip
    path = program(tmp_path, "return llm(topic)")
    assert compile_flow(path).plan.asked == ("gpt-x",)
    assert set(OPENAI) <= set(requirements(compile_flow(path).plan))
    path = program(tmp_path, "return llm(topic, model='round')")
    assert not set(OPENAI) & set(requirements(compile_flow(path).plan))
