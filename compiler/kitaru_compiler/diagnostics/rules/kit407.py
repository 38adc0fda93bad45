"""KIT407, pickle not said plainly."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT407",
    name="pickle-not-literal",
    severity="error",
    what="What `@checkpoint` says of `pickle` is neither `True` nor `False`.",
    why=(
        "A pickle runs code when it is loaded. Whoever reads the source, and every step of the "
        "pipeline, must see which checkpoints allow that, without running anything."
    ),
    bad="""\
@checkpoint(pickle=os.environ["TRUSTED"] == "1")
def fit(rows: list[float]) -> object:
    return build_value(rows)
""",
    good="""\
@checkpoint(pickle=True)
def fit(rows: list[float]) -> object:
    return build_value(rows)
""",
)
