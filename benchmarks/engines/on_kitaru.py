"""Kitaru: a flow of checkpoints in a SQLite store."""

from meter import COUNT, FOLDER, PHASE, end_here, measure

from kitaru import KitaruClient, checkpoint, flow

STORE = f"sqlite:{FOLDER}/kitaru.db"


@checkpoint(cache=False)
def step(number: int) -> int:
    return number + 1


@flow(cache=False)
def chain(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number)
    end_here()
    return number


def resume() -> int:
    (found,) = KitaruClient(STORE).executions.list(flow="chain")
    return chain.resume(found["exec_id"], store=STORE).wait()


if PHASE == "resume":
    measure(resume)
else:
    measure(lambda: chain.options(store=STORE).run(COUNT).wait())
