"""A supervisor hands a task to specialists, in a plan it makes, and checks what comes back."""

import kitaru
from kitaru import checkpoint, flow

BUDGET = 5


@checkpoint
def make_plan(task: str) -> list[str]:
    steps = ["research", "write"]
    return [*steps, "translate"] if "german" in task.lower() else steps


@checkpoint
def look_up(subject: str) -> list[str]:
    return [f"{subject} fact {n}" for n in (1, 2, 3)]


@checkpoint
def rate(fact: str) -> int:
    return int(fact.rsplit(" ", 1)[-1])


@checkpoint
def compose(facts: list[str], tone: str) -> str:
    return f"[{tone}] " + ", ".join(facts)


@checkpoint
def translate(text: str) -> str:
    return text.replace("fact", "Tatsache")


@checkpoint
def review(text: str, round: int) -> str:
    return "ok" if round or len(text) > 40 else "too short"


class Team:
    """What the specialists share."""

    def __init__(self, tone):
        self.tone = tone
        self.notes = []

    def say(self, text):
        self.notes.append(text)
        return len(self.notes)


def researcher(subject: str, least: int = 2) -> list[str]:
    facts = look_up(subject)
    if not facts:
        return ["nothing known"]
    ratings = [future.result() for future in rate.map(facts)]
    return [fact for fact, rating in zip(facts, ratings) if rating >= least]


def writer(facts, team):
    text = compose(facts, team.tone)
    team.say(f"wrote {len(text)}")
    return text


@flow
def supervise(task: str = "kayaks, in German", tone: str = "calm") -> str:
    team = Team(tone)
    plan = make_plan(task)
    kitaru.log(plan=plan)
    facts = researcher(task.split(",")[0])
    text = writer(facts, team)
    verdict = review(text, 0)
    if verdict != "ok":
        facts += researcher("more " + task.split(",")[0], least=1)
        text = writer(facts, team)
        verdict = review(text, 1)
    match plan:
        case [*_, "translate"]:
            text = translate(text)
        case ["research", "write"]:
            pass
        case _:
            return f"no specialist for {plan}"
    if len(team.notes) > BUDGET:
        return "over budget"
    return f"{text} ({verdict}; {'; '.join(team.notes)})"
