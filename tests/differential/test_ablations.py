"""With any one rule of the compiler switched off, a hazard program shows it: the suite can fail."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import kitaru_compiler.cut.codegen as generating
import kitaru_compiler.cut.plan as cutting
import kitaru_compiler.passes as passes
import kitaru_compiler.passes.expressions as expressions
import kitaru_compiler.passes.handlers as handlers
import pytest
from kitaru_compiler.cut.basic_blocks import DraftBlock
from kitaru_compiler.cut.terminators import call, end
from kitaru_compiler.frontend.calls import Calls
from kitaru_compiler.frontend.methods import Methods
from kitaru_compiler.frontend.replacing import Replacing
from kitaru_compiler.ir.build import at, load
from kitaru_compiler.ir.nodes import Activation, Arguments, Code
from kitaru_compiler.ir.scope import bound_names
from kitaru_compiler.passes.hoist import _Hoister

import kitaru.runtime.steps.blocks as running
from kitaru.runtime import codec
from kitaru.runtime.codec.reach import State
from kitaru.runtime.steps.helper_frames import Home
from kitaru.runtime.steps.state_changes import Watch
from kitaru.wire.plan import Plan
from tests.differential import hazards
from tests.differential.harness import compile_text, run_cut, run_plain

pytestmark = pytest.mark.slow

HAZARDS = {hazard.title: hazard for hazard in hazards.read()}
Patch = pytest.MonkeyPatch
Switch = Callable[[Patch], None]
# What switches a rule off, the program that must notice, and how it is seen to.
ABLATIONS: dict[str, tuple[Switch, str, Callable[[hazards.Hazard], bool]]] = {}


def differs(hazard: hazards.Hazard) -> bool:
    """Return whether the program means something else when it is cut, or cannot be compiled."""
    try:
        compilation, path = compile_text(hazard.source, beside=hazard.beside)
    except (AssertionError, SyntaxError):
        return True
    inputs = hazards.inputs_for(compilation.plan, hazards.INPUTS[0])
    plain = run_plain(compilation, path, inputs)
    return run_cut(compilation, path, inputs, everywhere=True).same() != plain.same()


def is_never_cut(hazard: hazards.Hazard) -> bool:
    """Return whether no frame crosses: what a rule lets cross stays behind without it."""
    compilation, path = compile_text(hazard.source, beside=hazard.beside)
    inputs = hazards.inputs_for(compilation.plan, hazards.INPUTS[0])
    return run_cut(compilation, path, inputs, everywhere=True).cuts == 0


def caught_by(
    title: str, seen: Callable[[hazards.Hazard], bool] = differs
) -> Callable[[Switch], Switch]:
    """Register what switches a rule off, and the program that must notice."""

    def register(switch_off: Switch) -> Switch:
        ABLATIONS[switch_off.__name__] = (switch_off, title, seen)
        return switch_off

    return register


@pytest.mark.parametrize("rule", ABLATIONS)
def test_a_rule_that_is_switched_off_is_missed(rule: str, monkeypatch: Patch) -> None:
    switch_off, title, seen = ABLATIONS[rule]
    assert not seen(HAZARDS[title])
    switch_off(monkeypatch)
    assert seen(HAZARDS[title])


@caught_by("An operand is read before a walrus in the checkpoint's argument binds it again")
def operands_are_kept(patch: Patch) -> None:
    patch.setattr(expressions, "same_later", lambda *_: True)


@caught_by("A global that a helper rebinds is read where it stands")
def globals_that_change_are_kept(patch: Patch) -> None:
    patch.setattr(
        expressions,
        "same_later",
        lambda node, ir, *rest: isinstance(node, ast.Name) and node.id not in ir.locals,
    )


@caught_by("A chained comparison whose middle a later operand rebinds")
def what_later_operands_bind_counts(patch: Patch) -> None:
    patch.setattr(expressions, "_bound", lambda *_: frozenset())


@caught_by("A missing method raises before the checkpoint runs")
def methods_are_looked_up_first(patch: Patch) -> None:
    patch.setattr(expressions, "same_callee_later", lambda *_: True)


@caught_by("An f-string formats a field before it evaluates the next")
def fields_are_formatted_at_once(patch: Patch) -> None:
    def late(self: expressions.Expressions, values: list[ast.expr]) -> list[ast.expr]:
        changed = [copy.copy(value) for value in values]
        for value in changed:
            if isinstance(value, ast.FormattedValue):
                value.value = self._spill(self.lower(value.value))
        return changed

    patch.setattr(expressions.Expressions, "_fields", late)


@caught_by("A handler that calls a checkpoint and raises again")
def what_reads_the_exception_stays_in_its_handler(patch: Patch) -> None:
    patch.setattr(handlers, "_reads", lambda *_: False)


@caught_by("A checkpoint reads the exception that its caller handles")
def code_that_reads_exceptions_is_found(patch: Patch) -> None:
    patch.setattr(Methods, "exception_reader", "")


@caught_by("The operand that decides a test is asked once")
def truth_is_asked_once(patch: Patch) -> None:
    patch.setattr(expressions.Expressions, "test", expressions.Expressions.lower)


@caught_by("An augmented item: container and index once, and in place")
def augmented_assignment_is_in_place(patch: Patch) -> None:
    def naive(self: _Hoister, stmt: ast.AugAssign) -> Code:
        target = copy.deepcopy(stmt.target)
        reading = copy.deepcopy(stmt.target)
        reading.ctx = ast.Load()
        old = self._keep(reading)
        value = at(stmt, ast.BinOp(load(stmt, old.id), stmt.op, self.lower(stmt.value)))
        return Code(at(stmt, ast.Assign([target], value)))

    patch.setattr(_Hoister, "_augmented", naive)


@caught_by("A star argument is consumed before the checkpoint runs")
def star_arguments_are_consumed(patch: Patch) -> None:
    spill = expressions.Expressions._spill

    def whole(self: expressions.Expressions, node: ast.expr, *rest: Any) -> ast.expr:
        if not isinstance(node, ast.Starred):
            return spill(self, node, *rest)
        return at(node, ast.Starred(self._keep(node.value), ast.Load()))

    patch.setattr(expressions.Expressions, "_spill", whole)


@caught_by("The items of a loop are all evaluated before the first round")
def items_are_evaluated_first(patch: Patch) -> None:
    # The package binds the name of this module to its function.
    module = import_module("kitaru_compiler.passes.unroll")
    patch.setattr(module, "is_literal", lambda node: True)


def without(patch: Patch, name: str) -> None:
    patch.setattr(passes, "PASSES", tuple(p for p in passes.PASSES if p.__name__ != name))


@caught_by("A guard that says no leaves the names its pattern bound")
def a_match_keeps_what_it_tried(patch: Patch) -> None:
    """Ask the guards in the tests that follow, where the next pattern is no longer tried."""
    module = import_module("kitaru_compiler.passes.branches")
    chosen = module._chosen

    def without_guards(ir: Any, stmt: ast.Match) -> list[ast.stmt]:
        select, *rest = chosen(ir, stmt)
        for case in select.cases:
            case.guard = None
        return [select, *rest]

    patch.setattr(module, "_chosen", without_guards)


@caught_by("Loops in loops, left in both ways")
def each_jump_leaves_its_own_scope(patch: Patch) -> None:
    module = import_module("kitaru_compiler.passes.unroll")
    mark = module.mark_exit
    patch.setattr(
        module, "mark_exit", lambda node, label: mark(node, label.replace("round", "loop"))
    )


@caught_by("A continue through a finally that binds")
def what_changes_on_the_way_out_is_kept_together(patch: Patch) -> None:
    patch.setattr(import_module("kitaru_compiler.passes.unroll"), "held_exit", lambda _: None)


@caught_by("A variable after a try with an early exit may be unbound")
def a_jump_knows_what_is_bound_where_it_stands(patch: Patch) -> None:
    module = import_module("kitaru_compiler.cut.liveness")
    after, jumps = module._after, module.jumps

    def blind(*args: Any) -> frozenset[str]:
        patch.setattr(module, "jumps", lambda stmt: [])
        try:
            return after(*args)
        finally:
            patch.setattr(module, "jumps", jumps)

    patch.setattr(module, "_after", blind)


@caught_by("A closure sees what is rebound after it")
def nothing_is_cut_after_some_closures(patch: Patch) -> None:
    without(patch, "closures")


@caught_by("A while loop asks again each time")
def loops_stay_together(patch: Patch) -> None:
    without(patch, "regions")


@caught_by("A flow that looks at its locals")
def frame_readers_are_left_whole(patch: Patch) -> None:
    without(patch, "uncuttable")


@caught_by("A flow variable that is unbound must not turn into the global of that name")
def flow_variables_are_local_in_every_block(patch: Patch) -> None:
    loads = generating._Writer.load
    patch.setattr(
        generating._Writer,
        "load",
        lambda self, variable, name, surely: loads(self, variable, name, surely) if surely else [],
    )


@caught_by("A variable deleted on one path")
def absence_is_information(patch: Patch) -> None:
    loads = generating._Writer.load
    patch.setattr(generating._Writer, "load", lambda self, *names: loads(self, *names[:2], True))


@caught_by("A walrus in a target that may not run binds nothing")
def only_what_surely_binds_kills(patch: Patch) -> None:
    patch.setattr("kitaru_compiler.cut.liveness.certainly_bound", bound_names)


@caught_by("An error in the middle of an expression over several lines")
def positions_are_the_users(patch: Patch) -> None:
    generate = cutting.generate

    def unplaced(*args: Any) -> generating.Generated:
        return generating.Generated(generate(*args).text, ())

    patch.setattr(cutting, "generate", unplaced)


@caught_by("Annotations that are never evaluated")
def future_imports_reach_the_blocks(patch: Patch) -> None:
    patch.setattr(generating, "_future_imports", lambda source: "")


@caught_by("A global that was changed")
def changed_globals_forbid_a_cut(patch: Patch) -> None:
    patch.setattr(Watch, "lost", lambda *_: None)


@caught_by("Two names for one list")
def a_frame_is_one_graph(patch: Patch) -> None:
    encode, decode = codec.encode_frame, codec.decode_frame
    patch.setattr(
        codec,
        "encode_frame",
        lambda variables, module: {n: encode({n: v}, module) for n, v in variables.items()},
    )
    patch.setattr(
        codec,
        "decode_frame",
        lambda frame, module: {n: decode(d, module)[n] for n, d in frame.items()},
    )


@caught_by("A global dict is still itself")
def module_objects_cross_by_name(patch: Patch) -> None:
    encode = codec.encode_frame
    patch.setattr(codec, "encode_frame", lambda variables, module: encode(variables, {}))


@caught_by("A helper's variables are not the flow's")
def activations_have_variables_of_their_own(patch: Patch) -> None:
    patch.setattr(Activation, "qualified", lambda self, variable: variable)


@caught_by("A helper of another module sees that module's globals")
def helpers_live_in_their_own_module(patch: Patch) -> None:
    homes = running.homes_of

    def moved(plan: Plan, module: ModuleType, futures: tuple[str, ...]) -> dict[str, Home]:
        found = homes(plan, module, futures)
        return {name: replace(home, module=module) for name, home in found.items()}

    patch.setattr(running, "homes_of", moved)


@caught_by("A helper's early returns continue at its call")
def a_helpers_return_is_no_end_of_the_flow(patch: Patch) -> None:
    patch.setattr("kitaru_compiler.cut.blocks.result_to", lambda block, activation: end)


@caught_by("What a helper raises shows where it was called")
def tracebacks_show_the_call(patch: Patch) -> None:
    patch.setattr(running, "_called", lambda function, *_: function)


@caught_by("Defaults are evaluated once")
def defaults_are_read_from_the_function(patch: Patch) -> None:
    patch.setattr("kitaru_compiler.passes.binding.is_literal", lambda default: True)


@caught_by("A helper that the project replaces")
def replaced_functions_forbid_a_cut(patch: Patch) -> None:
    patch.setattr(State, "_function", lambda *_: None)


@caught_by("Methods that are known only when they run")
def methods_that_objects_may_hide_are_called(patch: Patch) -> None:
    # Two rules look for them: what a class is given, and what code gives to any object.
    patch.setattr(Methods, "changed", frozenset())
    patch.setattr(Replacing, "method", lambda *_: "")


@caught_by("Methods that are known only when they run")
def classes_are_plain(patch: Patch) -> None:
    patch.setattr(Methods, "_is_plain", lambda *_: True)


@caught_by("An object of the module that keeps a count")
def state_of_own_objects_forbids_a_cut(patch: Patch) -> None:
    patch.setattr(State, "_object", lambda *_: None)


@caught_by("Arguments are evaluated in order, before the helper runs")
def arguments_are_evaluated_before_the_variables_are_handed_on(patch: Patch) -> None:
    def early(block: DraftBlock, activation: Activation, arguments: Arguments) -> ast.stmt:
        stmt = call(block, activation, arguments)
        pairs = stmt.value.elts[1]  # type: ignore[attr-defined]
        pairs.keys.insert(0, pairs.keys.pop())
        pairs.values.insert(0, pairs.values.pop())
        return stmt

    patch.setattr("kitaru_compiler.cut.blocks.call", early)


@caught_by("A helper imported under a condition")
def only_what_is_certainly_called_is_written_out(patch: Patch) -> None:
    patch.setattr(Calls, "_is_certain", lambda *_: True)


@caught_by("A global of another module is still itself", is_never_cut)
def objects_of_every_module_cross_by_name(patch: Patch) -> None:
    places = codec.places
    patch.setattr(codec, "places", lambda modules: places({"program": modules["program"]}))


@caught_by("A part of a global", is_never_cut)
def what_globals_hold_crosses_by_the_way_to_it(patch: Patch) -> None:
    places = codec.places

    def direct(modules: codec.Modules) -> Any:
        return {id: place for id, place in places(modules).items() if place.holder is None}

    patch.setattr(codec, "places", direct)


@caught_by("What functions and classes keep")
def what_definitions_keep_counts_among_globals(patch: Patch) -> None:
    patch.setattr(State, "_function", lambda *_: None)
    patch.setattr(State, "_class", lambda *_: None)


@caught_by("Futures in tuples, dicts and attributes")
def a_future_outside_the_variables_is_stored_where_it_is_gathered(patch: Patch) -> None:
    # The package binds the pass under the module's name.
    module = import_module("kitaru_compiler.passes.merge_submits")
    patch.setattr(module, "is_only_submitting", lambda *_: True)
    # Or the cut would be left out, since a class has changed.
    patch.setattr(State, "_class", lambda *_: None)
