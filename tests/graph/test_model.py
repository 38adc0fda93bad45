"""The graph says what the flow does: which ways there are, where they fork, meet and end."""

from __future__ import annotations

from .conftest import EVERYTHING, FIRST, Show


def test_one_of_everything(show: Show) -> None:
    shown = show(EVERYTHING)
    kinds = {kind: shown.ids(kind) for kind in ("start", "step", "region", "wait", "log", "join")}
    assert kinds == {
        "start": ["start"],
        "step": ["a", "b", "c", "a_2"],
        "region": ["b_c"],
        "wait": ["ok"],
        "log": ["log"],
        "join": ["join"],
    }
    assert shown.edges() == {
        ("start", "", "a"),
        ("a", "", "a.if1"),
        ("a.if1", "true", "a.end1"),
        ("a.if1", "false", "b_c"),
        ("b_c", "", "b_c.if1"),
        ("b_c.if1", "true", "b"),
        ("b_c.if1", "false", "b_c.if2"),
        ("b_c.if2", "true", "log"),
        ("b_c.if2", "false", "c"),
        ("b", "", "join"),
        ("log", "", "join"),
        ("c", "", "join"),
        ("join", "", "ok"),
        ("ok", "", "ok.if1"),
        ("ok.if1", "true", "a_2"),
        ("ok.if1", "false", "ok.end1"),
        ("a_2", "", "a_2.end1"),
    }


def test_tests_and_ends_are_the_users_text_at_the_users_line(show: Show) -> None:
    shown = show(EVERYTHING)
    found = {
        id_: (shown.node(id_).title, shown.node(id_).span.line - FIRST)
        for kind in ("test", "end")
        for id_ in shown.ids(kind)
    }
    assert found == {
        "a.if1": ("if len(x) < 20", 1),
        "b_c.if1": ("if x > 3", 5),
        "b_c.if2": ('if label == "</script><b>&"', 7),
        "ok.if1": ("if ok", 12),
        "a.end1": ('return "early"', 2),
        "ok.end1": ("return x", 12),
        "a_2.end1": ("return a(x)", 12),
    }
    assert [id_ for id_ in shown.ids("end") if shown.node(id_).early] == ["a.end1", "ok.end1"]


def test_a_region_says_which_rule_keeps_it_together(show: Show) -> None:
    node = show(EVERYTHING).node("b_c")
    assert node.reason == "KIT310"
    assert node.details[:2] == ("b, c", "KIT310 while-stays-together")
    assert (node.span.line - FIRST, node.span.end_line - FIRST) == (3, 4)


def test_a_step_says_what_it_asks_for(show: Show) -> None:
    assert show("a(n)\nb(n)").node("b").details == ("2 retries", "cpu 2, memory 4Gi")


def test_cuts_lead_to_steps_and_the_rest_runs_on(show: Show) -> None:
    shown = show(EVERYTHING)
    assert shown.cuts() == {
        ("a.if1", "b_c"), ("b_c.if1", "b"), ("b_c.if2", "c"), ("ok.if1", "a_2"),
    }  # fmt: skip
    assert shown.node("ok").runs_in == ("b_c", "b", "c")
    single = show(EVERYTHING, "single")
    assert single.edges() == shown.edges()
    assert single.cuts() == set()
    assert [node.id for node in single.graph.nodes if node.step] == ["start"]


def test_a_flow_that_is_not_cut_is_one_region(show: Show) -> None:
    shown = show("a(n)\nreturn eval('b')(n)")
    (region,) = shown.ids("region")
    assert shown.node(region).reason == "KIT319"
    assert len(shown.graph.nodes) == 2
    assert [edge.source for edge in shown.graph.edges] == [region]


def test_two_ways_to_one_test_share_it(show: Show) -> None:
    shown = show("""
        x = a(n)
        if x:
            if n: return 1
        if x > 2: return b(n)
        return c(n)
    """)
    titles = [shown.node(id_).title for id_ in shown.ids("test")]
    assert sorted(titles) == ["if n", "if x", "if x > 2"]


def test_ends_from_inside_a_loop_and_by_an_exception(show: Show) -> None:
    shown = show("""
        for x in label:
            if a(x):
                return x
        if n > 1:
            b(n)
            raise ValueError("<no>")
        c(n)
    """)
    (region,) = shown.ids("region")
    assert {edge.label for edge in shown.leaving(region)} == {"perhaps", ""}
    titles = [shown.node(id_).title for id_ in shown.ids("end")]
    assert titles == ["return …", 'raise ValueError("<no>")', "end"]


def test_submitted_calls_are_a_step_with_a_container_each(show: Show) -> None:
    shown = show("hs = [a.submit(m) for m in (n, 2)]\nreturn [h.result() for h in hs]")
    (calls,) = [node for node in shown.graph.nodes if node.title == "a × calls"]
    assert (calls.kind, calls.step, calls.id) == ("step", "a", "submit_a")
    assert shown.node("gather_a").kind == "join"
    cuts = [(edge.source, edge.target) for edge in shown.graph.edges if edge.cut]
    assert cuts == [("start", "submit_a"), ("submit_a", "gather_a")]
