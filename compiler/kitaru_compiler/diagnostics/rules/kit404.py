"""KIT404, future never read."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT404",
    name="future-never-read",
    severity="note",
    what="Nothing reads the future that a `.submit()` or `.map()` gave.",
    why=(
        "The flow waits for it before it ends all the same, and its failure fails the flow there,"
        " where no `try` of the flow can catch it. A name that starts with `_` says that this is "
        "meant."
    ),
    bad="""\
publish.submit(text)
return text
""",
    good="""\
done = publish.submit(text)
done.result()
return text
""",
)
