"""DBOS: a workflow of steps in a SQLite system database."""

from dbos import DBOS, SetWorkflowID
from meter import COUNT, FOLDER, PHASE, end_here, measure


@DBOS.step()
def step(number: int) -> int:
    return number + 1


@DBOS.workflow()
def chain(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number)
    end_here()
    return number


def run() -> int:
    with SetWorkflowID("bench"):
        return chain(COUNT)


def resume() -> int:
    DBOS.launch()
    return DBOS.retrieve_workflow("bench").get_result()


DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{FOLDER}/dbos.sqlite"})
if PHASE != "resume":
    DBOS.launch()
measure(resume if PHASE == "resume" else run)
DBOS.destroy()
