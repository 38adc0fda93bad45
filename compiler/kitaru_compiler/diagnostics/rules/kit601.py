"""KIT601, variable inputs."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT601",
    name="variable-inputs",
    severity="error",
    what="The flow takes `*args` or `**kwargs`.",
    why="A pipeline's parameters are a fixed, named list.",
    bad="""\
@flow
def main(*topics: str): ...
""",
    good="""\
@flow
def main(topics: list[str]): ...
""",
)
