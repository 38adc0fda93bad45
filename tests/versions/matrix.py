"""Code changes between run and resume: what each of them does, as the table `matrix.md`.

    python -m tests.versions.matrix        # writes the table again: a diff to be read

An execution of `SOURCE` runs until it waits: `plan`, `route` and `send_payment` are recorded, and
`approve` is asked. Then the file is edited, the wait is answered, and the execution continues with
the new code, as another process would run it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.errors import KitaruError
from kitaru.ops.answer import answer
from kitaru.runtime.engine import declared_changes, local_run
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.base import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire.starts import imports

MATRIX = Path(__file__).with_name("matrix.md")
ID = "order-1"
MODULE, OTHER = "versions_flow", "versions_payments"

SOURCE = """\
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import kitaru
from kitaru import checkpoint, flow


class Route(NamedTuple):
    start: str
    end: str


@dataclass
class Order:
    payee: str
    amount: int


def note(text):
    with Path("calls.txt").open("a") as file:
        file.write(text + "\\n")


@checkpoint
def plan(payee: str, amount: int) -> Order:
    note("plan")
    return Order(payee, amount)


@checkpoint
def route(order: Order) -> Route:
    note("route")
    return Route("Oslo", "Rome")


@checkpoint
def send_payment(order: Order) -> str:
    note("send_payment")
    return f"paid {order.payee}"


@checkpoint
def ship(paid: str, way: Route) -> str:
    note("ship")
    return f"{paid}, from {way.start}"


@flow
def main(payee: str = "nobody", amount: int = 3) -> str:
    order = plan(payee, amount)
    way = route(order)
    paid = send_payment(order)
    if not kitaru.wait(name="approve", question="Ship?"):
        return "stopped"
    return ship(paid, way)
"""

Edit = tuple[str, str]
_PAY = (("def send_payment", "def pay"), ("paid = send_payment(", "paid = pay("))
_PAYMENTS = """\
from pathlib import Path

from kitaru import checkpoint


@checkpoint
def send_payment(order) -> str:
    with Path("calls.txt").open("a") as file:
        file.write("send_payment\\n")
    return f"paid {order.payee}"
"""
_MOVED = (
    ("@checkpoint\ndef send_payment", "def unused"),
    ("from kitaru import checkpoint, flow", "from kitaru import checkpoint, flow\n\n"
     "from versions_payments import send_payment"),
)  # fmt: skip
_CLASS = (
    ("@checkpoint\ndef send_payment(order: Order) -> str:\n    note(\"send_payment\")\n    return",
     "class Bank:\n    @staticmethod\n    @checkpoint\n    def send_payment(order: Order) -> str:\n"
     "        note(\"send_payment\")\n        return"),
    ("paid = send_payment(", "paid = Bank.send_payment("),
)  # fmt: skip
_SIGN = (('name="approve"', 'name="sign_off"'),)
_RECEIVER = (
    ("def main(payee: str", "def main(receiver: str"),
    ("plan(payee, amount)\n    way", "plan(receiver, amount)\n    way"),
)
_AUDIT = (
    ("@flow", '@checkpoint\ndef audit() -> None:\n    note("audit")\n\n\n@flow'),
    ("    order = plan", "    audit()\n    order = plan"),
)
_NO_ROUTE = (
    ("    way = route(order)\n", ""),
    ("ship(paid, way)", 'ship(paid, Route("Here", "There"))'),
)
_LATE = (
    ("@flow", '@checkpoint\ndef thank() -> None:\n    note("thank")\n\n\n@flow'),
    ("    return ship(paid, way)", "    thank()\n    return ship(paid, way)"),
)


def say(*lines: str) -> Edit:
    """Return the edit that declares something at the end of the file."""
    return ("@flow", "\n".join(lines) + "\n\n\n@flow")


@dataclass(frozen=True)
class Case:
    """One change of the code; `value` is the answer to the wait, `other` a module beside it."""

    kind: str
    change: str
    edits: tuple[Edit, ...] = ()
    value: Any = True
    other: str = ""


CASES = (
    Case("none", "nothing"),
    Case("none", "a comment and a docstring", (("@flow", "# The flow.\n@flow"),)),
    Case("body", "the body of a recorded checkpoint", (('f"paid {', 'f"has paid {'),)),
    Case("body", "the body of the next checkpoint", (('}, from {', '} via {'),)),
    Case("checkpoint", "a recorded checkpoint is renamed", _PAY),
    Case("checkpoint", "… declared: `renamed`",
         (*_PAY, say('kitaru.renamed("send_payment", checkpoint="pay")'))),
    Case("checkpoint", "… twice, declared: `renamed` twice",
         (("def send_payment", "def settle"), ("paid = send_payment(", "paid = settle("),
          say('kitaru.renamed("send_payment", checkpoint="pay")',
              'kitaru.renamed("pay", checkpoint="settle")'))),
    Case("checkpoint", "… declared wrongly: `added`",
         (*_PAY, say('kitaru.added(checkpoint="pay")'))),
    Case("checkpoint", "a recorded checkpoint moves to another module", _MOVED, other=_PAYMENTS),
    Case("checkpoint", "… declared: `moved`",
         (*_MOVED, say('kitaru.moved("versions_flow:send_payment", send_payment)')),
         other=_PAYMENTS),
    Case("checkpoint", "… and is renamed, declared: `renamed`",
         (*_MOVED, ("import send_payment", "import pay"), ("paid = send_payment(", "paid = pay("),
          say('kitaru.renamed("send_payment", checkpoint="pay")')),
         other=_PAYMENTS.replace("def send_payment", "def pay")),
    Case("checkpoint", "… declared for another checkpoint: `moved`",
         (*_MOVED, say('kitaru.moved("versions_flow:route", send_payment)')), other=_PAYMENTS),
    Case("checkpoint", "it becomes a method of a class", _CLASS),
    Case("checkpoint", "… declared: `moved`",
         (*_CLASS, say('kitaru.moved("versions_flow:send_payment", Bank.send_payment)'))),
    Case("checkpoint", "a new checkpoint gets an earlier name",
         (*_PAY, say('kitaru.renamed("send_payment", checkpoint="pay")'),
          ("def ship(", "def send_payment("), ("return ship(", "return send_payment("))),
    Case("checkpoint", "the next checkpoint is renamed",
         (("def ship(", "def deliver("), ("return ship(", "return deliver("))),
    Case("checkpoint", "one is added before recorded ones", _AUDIT),
    Case("checkpoint", "… declared: `added`", (*_AUDIT, say('kitaru.added(checkpoint="audit")'))),
    Case("checkpoint", "one is added after the recorded ones", _LATE),
    Case("checkpoint", "a recorded one is removed", _NO_ROUTE),
    Case("checkpoint", "… declared: `removed`",
         (*_NO_ROUTE, say('kitaru.removed(checkpoint="route")'))),
    Case("checkpoint", "two recorded ones change places",
         (("    way = route(order)\n    paid = send_payment(order)\n",
           "    paid = send_payment(order)\n    way = route(order)\n"),)),
    Case("checkpoint", "a recorded one moves behind the wait",
         (("    way = route(order)\n", ""),
          ("    return ship(", "    way = route(order)\n    return ship("))),
    Case("checkpoint", "a recorded one is called twice",
         (("    way = route(order)\n", "    way = route(order)\n    route(order)\n"),)),
    Case("checkpoint", "it becomes a plain function",
         (("@checkpoint\ndef route", "def route"),)),
    Case("checkpoint", "it gets `id=`", (("route(order)\n", 'route(order, id="way")\n'),)),
    Case("checkpoint", "it is called with another argument",
         (("plan(payee, amount)\n    way", "plan(payee, amount + 1)\n    way"),)),
    Case("checkpoint", "an argument is passed by keyword",
         (("plan(payee, amount)\n    way", "plan(payee, amount=amount)\n    way"),)),
    Case("checkpoint", "a parameter of the next one is renamed",
         (("ship(paid: str", "ship(receipt: str"), ('f"{paid}, from', 'f"{receipt}, from'))),
    Case("wait", "the pending wait is renamed", _SIGN),
    Case("wait", "… declared: `renamed`",
         (*_SIGN, say('kitaru.renamed("approve", wait="sign_off")'))),
    Case("wait", "… declared wrongly: `added`", (*_SIGN, say('kitaru.added(wait="sign_off")'))),
    Case("wait", "the pending wait is removed",
         (('    if not kitaru.wait(name="approve", question="Ship?"):\n', "    if False:\n"),)),
    Case("wait", "a wait is added before the pending one",
         (("    if not kitaru.wait", '    kitaru.wait(name="budget")\n    if not kitaru.wait'),)),
    Case("wait", "its question changes", (("Ship?", "Ship it now?"),)),
    Case("wait", "its schema changes: bool to str",
         (('question="Ship?"', 'question="Ship?", schema=str'),)),
    Case("wait", "its schema becomes wider: bool to Any",
         (('question="Ship?"', 'question="Ship?", schema=Any'),)),
    Case("input", "an input is renamed", _RECEIVER),
    Case("input", "… declared: `renamed`",
         (*_RECEIVER, say('kitaru.renamed("payee", input="receiver")'))),
    Case("input", "an input is added, with a default",
         (("amount: int = 3)", "amount: int = 3, currency: str = 'EUR')"),)),
    Case("input", "an input is added, without a default",
         (("main(payee", "main(currency: str, payee"),)),
    Case("input", "an input is removed",
         ((", amount: int = 3) -> str:\n    order", ") -> str:\n    amount = 3\n    order"),)),
    Case("input", "… declared: `removed`",
         ((", amount: int = 3) -> str:\n    order", ") -> str:\n    amount = 3\n    order"),
          say('kitaru.removed(input="amount")'))),
    Case("input", "an input has another type", (('payee: str = "nobody"', "payee: int = 0"),)),
    Case("input", "a default changes", (("amount: int = 3)", "amount: int = 5)"),)),
    Case("class", "a field of a recorded dataclass is renamed",
         (("    amount: int\n", "    total: int\n"),)),
    Case("class", "a field is added, with a default",
         (("    amount: int\n", "    amount: int\n    note: str = ''\n"),)),
    Case("class", "two fields of a named tuple change places",
         (("    start: str\n    end: str\n", "    end: str\n    start: str\n"),)),
    Case("class", "a class is renamed",
         (("class Order", "class Purchase"), ("return Order(", "return Purchase("),
          ("-> Order", "-> Purchase"), ("route(order: Order", "route(order: Purchase"),
          ("send_payment(order: Order", "send_payment(order: Purchase"))),
    Case("class", "… declared: `moved`",
         (("class Order", "class Purchase"), ("return Order(", "return Purchase("),
          ("-> Order", "-> Purchase"), ("route(order: Order", "route(order: Purchase"),
          ("send_payment(order: Order", "send_payment(order: Purchase"),
          say('kitaru.moved("versions_flow:Order", Purchase)'))),
    Case("flow", "the flow's function is renamed", (("def main(", "def order_flow("),)),
    Case("flow", "… and keeps its name",
         (("@flow\ndef main(", '@flow(name="main")\ndef order_flow('),)),
    Case("flow", "it branches the other way",
         (("    if not kitaru.wait", "    if kitaru.wait"),)),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of an execution: `ran` are the checkpoints that ran with the new code."""

    status: str
    shown: str
    ran: tuple[str, ...]
    logged: tuple[str, ...] = ()
    help: str = ""


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder of its own, without the declarations and modules of other cases."""
    before, kept = Path.cwd(), dict(declared_changes._declared)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
            forget()
            declared_changes._declared.update(kept)


def forget() -> None:
    """Make this process as one that has not read the flow's file."""
    from kitaru.runtime.codec import qualified_names

    declared_changes._declared.clear()
    qualified_names._moved.clear()
    qualified_names._moved_callees.clear()
    for module in (MODULE, OTHER):
        sys.modules.pop(module, None)
    for run in list(local_run._running.values()):
        run.is_delivered = True
    local_run._running.clear()


def begun(folder: Path, source: str = SOURCE) -> Store:
    """Run the flow with `payee="alice"` until it waits; return the store."""
    from kitaru.runtime.steps.modules import import_file

    forget()
    file = folder / f"{MODULE}.py"
    file.write_text(source)
    store = MemoryStore(f"memory:{folder.name}")
    with imports():
        module: Any = import_file(file, MODULE)
    handle = module.main.options(store=store, exec_id=ID).run("alice")
    assert handle.settle(60) == "waiting"
    return store


def edited(folder: Path, edits: tuple[Edit, ...], source: str = SOURCE) -> None:
    """Write the flow's file with these edits, for a process that has not read it."""
    for old, new in edits:
        assert source.count(old) >= 1, (old, source)
        source = source.replace(old, new)
    forget()
    # Python takes the old bytecode for a file of the same size that changed in the same second.
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    (folder / f"{MODULE}.py").write_text(source)


def calls(folder: Path) -> list[str]:
    return (folder / "calls.txt").read_text().split()


def outcome(case: Case) -> Outcome:
    """Run one case."""
    import logging

    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("kitaru")
    logger.addHandler(handler)
    try:
        with workplace() as folder:
            store = begun(folder)
            before = len(calls(folder))
            edited(folder, case.edits)
            (folder / f"{OTHER}.py").write_text(case.other)
            status, shown, help = _continued(store, case)
            shown = shown.replace(str(folder), "FOLDER")
            ran = tuple(calls(folder)[before:])
            return Outcome(status, shown, ran, tuple(logged), help)
    finally:
        logger.removeHandler(handler)


def _continued(store: Store, case: Case) -> tuple[str, str, str]:
    try:
        done = answer(store, ID, case.value)
        done.handle.settle(60)
        if done.handle.status == "waiting":
            pending = Journal.open(store, ID).pending_waits()
            return "waits", ", ".join(f"{one.name} {one.schema}" for one in pending), ""
        return done.handle.status, str(done.handle.get()), ""
    except KitaruError as error:
        status = Journal.open(store, ID).state().status
        return f"stops ({type(error).__name__}), {status}", error.message, error.help


def table() -> str:
    """Return the matrix as Markdown."""
    about = (__doc__ or "").partition("diff to be read\n\n")[2].strip()
    head = [
        "# Code changes between run and resume",
        "",
        about,
        "",
        "| | what | change | outcome | result or message | ran with the new code | reported |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(row(number) for number in range(1, len(CASES) + 1))]) + "\n"


def row(number: int) -> str:
    """Return one line of the matrix; the first case is number 1."""
    case = CASES[number - 1]
    done = outcome(case)
    cells = [done.status, done.shown, ", ".join(done.ran), "; ".join(done.logged)]
    return f"| {number} | {case.kind} | {case.change} | {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    MATRIX.write_text(table())
