"""What the charts show, by what is drawn on them."""

from dataclasses import replace

import numpy
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from tests.unit.report.reports import DATA, NOTHING, two_behaviors
from tests.unit.search.studies import record

from heretic.report.charts import charts, importance_figure, pareto_figure, quality_figure, strength_figure
from heretic.report.data import Chosen
from heretic.report.style import DARK, LIGHT
from heretic.results.plan import EditPlan, Schedule, Scope
from heretic.results.score import Scores


def points(panel: Axes, label: str) -> list[tuple[float, float]]:
    (line,) = [line for line in panel.get_lines() if line.get_label() == label]
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def edge(panel: Axes) -> list[tuple[float, float]]:
    (line,) = [line for line in panel.get_lines() if line.get_drawstyle() == "steps-post"]
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_every_trial_is_on_the_chart_as_what_it_is() -> None:
    (panel,) = pareto_figure(DATA, LIGHT).axes
    assert sorted(points(panel, "on the front")) == [(0.001, 50), (0.01, 20), (0.2, 4)]
    assert points(panel, "complete") == [(0.3, 30)]
    assert points(panel, "stopped: at least") == [(0.4, 9)]
    # Its number of refusals is not known, so it stands at no height but at the edge.
    assert [x for x, _ in points(panel, "stopped by divergence")] == [0.9]
    assert points(panel, "trial 3") == [(0.2, 4)]
    assert edge(panel) == [(0.001, 50), (0.01, 20), (0.2, 4)]
    assert {y for _, y in points(panel, "original model")} == {50}
    assert panel.get_ylabel() == "refusals"
    assert panel.get_xscale() == "log"


def test_divergences_of_nothing_and_of_one_size_are_drawn_too() -> None:
    near = replace(DATA, records=(record(0, 9, 0.1), record(1, 3, 0.2)), chosen=None)
    assert pareto_figure(near, LIGHT).axes[0].get_xscale() == "linear"
    nothing = replace(near, records=(*near.records, record(2, 50, 0.0), record(3, 20, 0.001)))
    assert pareto_figure(nothing, LIGHT).axes[0].get_xscale() == "symlog"


def test_numbers_that_are_none_are_left_out() -> None:
    data = replace(DATA, records=(record(0, 9, 0.1), record(1, 3, float("nan")), record(2, 2, float("inf"))))
    assert points(pareto_figure(data, LIGHT).axes[0], "on the front") == [(0.1, 9)]
    assert "pareto" not in charts(replace(data, records=data.records[1:]))


def test_every_behavior_has_a_panel() -> None:
    records = (two_behaviors(0, 10, 30.5, 0.1), two_behaviors(1, 20, 20.25, 0.2), two_behaviors(2, 9, 40, 0.3))
    upper, lower = pareto_figure(replace(DATA, records=records), LIGHT).axes
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("refusals", "words")
    # All three are on the front of all numbers, but not on the edge of a panel's two.
    assert len(points(lower, "on the front")) == 3
    assert edge(upper) == [(0.1, 10), (0.3, 9)]
    assert edge(lower) == [(0.1, 30.5), (0.2, 20.25)]


def test_importance_has_a_group_of_bars_for_every_parameter() -> None:
    (panel,) = importance_figure(DATA, LIGHT).axes
    refusals, kl = panel.containers
    assert [label.get_text() for label in panel.get_yticklabels()] == ["attention: peak weight", "scope"]
    assert [bar.get_width() for bar in refusals] == pytest.approx([70, 30])
    assert [bar.get_width() for bar in kl] == pytest.approx([40, 60])
    assert (refusals.get_label(), kl.get_label()) == ("refusals (24 trials)", "KL divergence (30 of 31 trials)")


def test_strengths_are_the_plans_by_layer() -> None:
    (panel,) = strength_figure(DATA, LIGHT).axes
    assert DATA.chosen is not None
    expected = [(layer + 1.0, DATA.chosen.plan.strength("attention", layer, 8)) for layer in range(8)]
    assert points(panel, "attention") == expected
    assert len({strength for _, strength in points(panel, "mlp")}) > 2
    assert panel.get_xlabel().startswith("Layer")


def test_strengths_of_an_unknown_number_of_layers_are_over_depth() -> None:
    plan = EditPlan(Scope.LAYER, None, (("attention", Schedule(1.0, 0.0, 0.0, 0.5)),))
    (panel,) = strength_figure(replace(DATA, layer_count=None, chosen=Chosen(None, plan, ())), LIGHT).axes
    curve = points(panel, "attention")
    assert curve[0] == (0.0, 1.0)
    assert curve[-1] == (1.0, 0.0)
    assert panel.get_xlabel().startswith("Relative depth")


def test_quality_begins_with_the_embeddings() -> None:
    (panel,) = quality_figure(DATA, LIGHT).axes
    values = panel.get_lines()[0].get_ydata()
    assert list(panel.get_lines()[0].get_xdata()) == list(range(9))
    numpy.testing.assert_array_equal(numpy.asarray(values), DATA.quality)


def test_only_what_is_known_is_drawn() -> None:
    assert set(charts(DATA)) == {"pareto", "importance", "strengths", "quality"}
    assert charts(NOTHING) == {}
    assert "quality" not in charts(replace(DATA, quality=(float("nan"),)))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_theme_colours_all_that_is_no_data(theme: object) -> None:
    assert theme in (LIGHT, DARK)
    chosen = LIGHT if theme is LIGHT else DARK
    for draw in charts(DATA).values():
        figure = draw(DATA, chosen)
        assert to_hex(figure.get_facecolor()) == chosen.paper
        for panel in figure.axes:
            assert to_hex(panel.xaxis.label.get_color()) == chosen.ink
            assert to_hex(panel.get_facecolor()) == chosen.paper
        for legend in figure.legends:
            assert {to_hex(text.get_color()) for text in legend.get_texts()} == {chosen.ink}


def test_names_with_dollar_signs_are_no_formulas() -> None:
    """A formula that cannot be read would end the drawing."""
    odd = "$\\frac{$ \n\x00" + "x" * 100
    score = replace(DATA.records[0].behaviors[0], name=odd)
    records = tuple(replace(own, scores=Scores((score,), own.kl)) for own in DATA.records[:3])
    importances = (replace(DATA.importances[0], label=odd, shares=((odd, 1.0),)),)
    for draw in charts(replace(DATA, records=records, importances=importances)).values():
        draw(replace(DATA, records=records, importances=importances), LIGHT).draw_without_rendering()
