"""`kitaru deploy`, `flow` and `invoke`: versions, tags, and executions that keep their version."""

from __future__ import annotations

import pytest

from . import flows
from .conftest import Kitaru

CHANGED = flows.REVIEW.replace('f"draft of {brief}"', 'f"a draft of {brief}"')
TOPIC = ("--input", "topic=tea")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Kitaru:
    """A project whose flow has two versions: v1 is `stable`, v2 is `default` and `canary`."""
    kitaru = Kitaru(tmp_path_factory.mktemp("deployed"))
    kitaru.write("pyproject.toml", "[tool.kitaru]\n")
    kitaru.write("review.py", flows.REVIEW)
    first = kitaru("deploy", "review.py", "-t", "vertex")
    assert "the first version; steps: research, draft" in first.out
    assert "deployed review v1, tags default" in first.out
    assert "kitaru invoke review --input topic=…" in first.out
    kitaru("flow", "tag", "review@v1", "stable")
    kitaru.write("review.py", CHANGED)
    both = ("--tag", "default", "--tag", "canary")
    second = kitaru("deploy", "review.py", "-t", "vertex", *both, "--json").document
    assert second["deployment"]["version"] == "v2"
    assert [change["name"] for change in second["change"]["changed"]] == ["review", "draft"]
    return kitaru


def test_what_is_deployed_is_listed(deployed: Kitaru) -> None:
    tags = {"canary": "v2", "default": "v2", "stable": "v1"}
    listed = deployed("flow", "list", "--json").document
    assert listed["items"] == [{"flow": "review", "newest": "v2", "tags": tags}]
    shown = deployed("flow", "show", "review", "--json").document
    assert [(one["version"], one["tags"]) for one in shown["items"]] == [
        ("v2", ["canary", "default"]), ("v1", ["stable"]),
    ]  # fmt: skip
    assert deployed("flow", "show", "review@stable").out.split()[:3] == ["review", "v1", "vertex"]
    absent = deployed("flow", "show", "absent", "--json", code=2).error
    assert absent["help"] == "Deployed are: review"


def test_a_dry_run_keeps_nothing(deployed: Kitaru) -> None:
    deployed.write("other/review.py", flows.REVIEW.replace("Rejected", "No"))
    done = deployed("deploy", "other/review.py", "-t", "vertex", "--tag", "stable", "--dry-run")
    assert "review for vertex: " in done.out and "~ " in done.out
    assert "nothing was deployed" in done.out
    assert len(deployed("flow", "show", "review", "--json").document["items"]) == 2


def test_an_execution_keeps_its_version_while_the_tag_moves(deployed: Kitaru) -> None:
    deployed("flow", "tag", "review@v1", "moving")
    local = ("invoke", "review@moving", *TOPIC, "--local", "--json")
    begun = deployed(*local).document
    assert (begun["status"], begun["deployment"]) == ("waiting", "v1")
    deployed("flow", "tag", "review@v2", "moving")
    # The execution continues with its own version, not with the source or the tag's new version.
    done = deployed("executions", "input", begun["exec_id"], "--value", "true", "--json").document
    assert (done["result"], done["deployment"]) == ("draft of brief on tea", "v1")
    assert "v1" in deployed("executions", "get", begun["exec_id"]).out
    again = deployed("executions", "replay", begun["exec_id"], "--from", "draft", "--json").document
    assert again["deployment"] == "v1"
    moved = deployed(*local, "--answer", "approve=true").document
    assert (moved["result"], moved["deployment"]) == ("a draft of brief on tea", "v2")


def test_a_version_is_named_by_options_too(deployed: Kitaru) -> None:
    deployed("flow", "tag", "review", "old", "--version", "1", "--exclusive")
    assert deployed("flow", "show", "review@old").out.split()[1] == "v1"
    for option in (("--tag", "old"), ("--version", "1"), ("--version", "v1")):
        local = ("invoke", "review", *option, *TOPIC, "--local", "--json")
        assert deployed(*local).document["deployment"] == "v1"
    both = ("invoke", "review@v1", "--tag", "old", *TOPIC)
    assert "More than one version" in deployed(*both, code=2).err


WRONG = [
    (("invoke", "review@v9", *TOPIC), "has no version v9", "v1 to v2"),
    (("invoke", "review@gone", *TOPIC), "has no tag gone", "stable (v1)"),
    (("invoke", "absent"), "not deployed", "Deployed are: review"),
    (("invoke", "review"), "missing input 'topic'", "its inputs are: topic"),
    (("invoke", "review", *TOPIC, "--answer", "a=1"), "--answer is for --local", "input"),
    (("invoke", "review", *TOPIC), "cannot reach the store", "--store s3://"),
    (("invoke", "review", *TOPIC, "--set", "x"), "is not NAME=VALUE", "--set"),
    (("flow", "tag", "review", "x"), "The version is missing", "review@v1"),
    (("flow", "tag", "review@v1", "v2"), "reads as a version", "stable"),
    (("deploy", "review.py", "-t", "vertex", "--tag", "a b"), "name of a tag", "letters"),
]


def test_what_cannot_be_done_says_what_can(deployed: Kitaru) -> None:
    found = deployed.each([(*arguments, "--json") for arguments, _, _ in WRONG])
    for (arguments, message, help), done in zip(WRONG, found, strict=True):
        assert done.code == 2, (arguments, done)
        assert message in done.error["message"] and help in done.error["help"], (arguments, done)


LOOP = """
from kitaru import checkpoint, flow

@checkpoint
def more(n: int) -> int:
    return n + 1

@flow
def loop(n: int = 0) -> int:
    while n < 3:
        n = more(n)
    return n
"""


def test_a_flow_that_runs_whole_is_told_nothing_of_cuts(kitaru: Kitaru) -> None:
    kitaru.write("loop.py", LOOP)
    done = kitaru("deploy", "loop.py", "--strict")
    assert done.err == ""
    assert done.out.startswith("loop for local: the first version\n")
    assert "KIT310" in kitaru("deploy", "loop.py", "-t", "vertex", "--dry-run").err
