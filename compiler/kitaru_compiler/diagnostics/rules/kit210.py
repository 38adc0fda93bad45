"""KIT210, value cannot cross."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT210",
    name="value-cannot-cross",
    severity="warning",
    what="A variable holds an open file, a lock, an iterator or the like across a cut.",
    why=(
        "Such a value lives in one process. The steps on both sides of the cut then share one, "
        "however they were cut, and where the later one needs its own machine the run fails. After "
        "a resume the value is made again: a file is read from its start, a lock is free."
    ),
    bad="""\
@flow
def main(names: list[str], texts: list[str]) -> str:
    pairs = zip(names, texts)
    draft(names)
    return draft(dict(pairs))
""",
    good="""\
@flow
def main(names: list[str], texts: list[str]) -> str:
    pairs = list(zip(names, texts))
    draft(names)
    return draft(dict(pairs))
""",
)
