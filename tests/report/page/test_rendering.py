"""A page holds what its data say, and nothing that a browser would fetch, run or misread."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from esl_neuro.report.page import charts
from esl_neuro.report.page.data import Accuracies, Check, Resource
from esl_neuro.report.page.rendering import NO_CHARTS, render_page, sections
from esl_neuro.report.plots import LONGEST
from report.page.pages import Page, page_data, with_every_text


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without charts, which take a tenth of the time."""
    monkeypatch.setattr(charts, "can_draw", lambda: False)


HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> </style></title>{{ 191*7 }} &amp; $x^2$ #0072B2;\x1b[2J"
)
ALLOWED = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "a",
        "header",
        "p",
        "h1",
        "h2",
        "h3",
        "span",
        "nav",
        "ul",
        "li",
    ),
    *("main", "section", "dl", "div", "dt", "dd", "figure", "figcaption", "details", "summary", "table", "caption"),
    *("thead", "tbody", "tr", "th", "td", "code", "strong", "ol", "label", "input", "footer"),
    *("svg", "g", "path", "defs", "clippath", "rect", "use", "text", "tspan", "pattern"),
}


@pytest.fixture(scope="module")
def data():
    return page_data()


@pytest.fixture(scope="module")
def html(data):
    return render_page(data)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_element_is_closed_and_known(page):
    assert page.open == []
    assert {tag for tag, _ in page.elements} <= ALLOWED


def test_the_policy_forbids_everything_but_styles_and_nothing_would_be_fetched(html, page):
    (policy,) = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "action", "xlink:href"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= {f"#{each['id']}" for _, each in page.elements if "id" in each}
    assert "@import" not in html
    assert "http://" not in re.sub(r"<style.*?</style>|<t[hd].*?</t[hd]>", "", html, flags=re.DOTALL)


def test_names_are_text_wherever_they_stand(data):
    hostile = Page(render_page(with_every_text(data, HOSTILE)))
    assert hostile.open == []
    assert {tag for tag, _ in hostile.elements} <= ALLOWED
    for tag, attributes in hostile.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "1337" not in hostile.text
    assert "<script>alert(1)</script>" in hostile.text
    assert "\x1b" not in hostile.text
    # A colour in a name is no colour of the drawing.
    assert "var(--series-1)" not in hostile.text


def test_a_name_in_a_chart_is_text_and_no_formula(data):
    layer = "$x^2$ <b>#0072B2;"
    structure = (replace(data.structure[0], layer=layer),)
    svg = charts.histogram_chart("fan-in", structure, lambda each: each.fan_in, "x")
    assert layer in Page(f"<p>{svg}</p>").text


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    # Markers and clips of equal drawings are equal, so that it does not matter which of them is used.
    named = [each for each in ids if not re.fullmatch(r"[a-z]+[0-9a-f]{10}", each)]
    assert len(named) == len(set(named))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name) is None or attributes[name] in ids
        href = attributes.get("href")
        assert href is None or href.removeprefix("#") in ids


def test_headings_are_in_order_and_every_section_is_in_the_list(data, page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    listed = [each["href"] for each in page.of("a")][1:]
    assert listed == [f"#{each['id']}" for each in page.of("section")]
    assert listed == ["#summary", *(f"#{section.key}" for section in sections(data))]


def test_every_chart_has_a_name_words_and_numbers_on_the_page(data, page):
    for svg in page.of("svg"):
        assert svg["role"] == "img"
        assert svg["aria-label"]
    assert len(page.of("figure")) == len(page.of("figcaption"))
    with_numbers = {chart.title for section in sections(data) for chart in section.charts if chart.table}
    assert {"Accuracy over training", "Core map", "Moved spikes"} <= with_numbers
    assert len(page.of("table")) == len(page.of("caption"))


def test_colours_are_those_of_the_style_sheet(html):
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--series-1)" in drawn
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{3,6})", drawn)) == set()
    named = set(re.findall(r"var\((--[a-z0-9-]+)\)", drawn))
    style = html[html.index("<style>") : html.index("</style>")]
    dark = style[style.index("prefers-color-scheme: dark") :]
    for variable in named:
        assert f"{variable}:" in style
        assert f"{variable}:" in dark


def test_the_page_says_the_figures_of_its_data(data, page):
    for text in (
        "90.00 %",
        "80.00 %",
        f"{data.stored:,} of {data.possible:,} connections",
        "1 of 1 passed; 1 not made",
    ):
        assert text.split("; ")[0] in page.text
    assert "esl-neuro train a" in page.text
    assert "warning: a finding" in page.text
    for source in data.energy.sources:
        assert source.constant in page.text


def test_short_names_of_layers_that_differ_at_the_end_differ(data):
    names = [charts.brief(each.layer) for each in data.structure]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= LONGEST
    assert charts.brief("fc1") == "fc1"


def test_a_layer_has_one_colour_in_all_charts(data):
    layers = [each.layer for each in data.structure]
    colours = [charts.colour_of(layers, layer) for layer in layers]
    assert len(set(colours)) == len(layers)
    assert charts.colour_of(layers, "input") not in colours


@pytest.mark.usefixtures("undrawn")
def test_sections_without_data_say_in_a_line_what_would_give_them(data):
    missing = {name: f"do {name}" for name in ("training", "training-cost", "rewiring", "film", "fidelity", "cores")}
    without = replace(data.cores, resources=(), cores=())
    bare = replace(
        data, history=(), training_cost=None, rewiring=(), films=(), agreement=None, cores=without, missing=missing
    )
    text = Page(render_page(bare)).text
    for name in missing:
        assert f"Not here: do {name}" in text


@pytest.mark.usefixtures("undrawn")
def test_unknown_accuracies_say_how_to_know_them(data):
    bare = replace(data, accuracies=Accuracies(), missing={"Accuracy, Lava": "run it"})
    assert "Accuracy, Lava unknown run it" in Page(render_page(bare)).text


@pytest.mark.usefixtures("undrawn")
def test_a_failed_comparison_is_in_the_summary(data):
    failed = replace(data, checks=(Check("spikes", False, "differ in step 3", "run"), Check("one", True, "", "")))
    page = Page(render_page(failed))
    assert "Verification 1 of 2 passed spikes" in page.text
    assert "FAILED" in page.text
    assert [each for each in page.of("div") if each.get("class") == "bad"]


@pytest.mark.usefixtures("undrawn")
def test_a_network_that_is_too_large_names_every_limit(data):
    resources = (
        Resource("cores_per_chip", 300, 300, 128, "cores"),
        Resource("neurons_per_core", 9000, 10, 8192, "neurons"),
    )
    large = replace(data, cores=replace(data.cores, resources=resources))
    text = Page(render_page(large)).text
    assert "Fits loihi2 no cores per chip 300 of 128; neurons per core 9,000 of 8,192" in text


def test_limits_that_are_not_published_are_named_as_not_checked(data, page):
    assert data.cores.unpublished
    assert "not checked, since no limit is published: synaptic memory per core" in page.text


@pytest.mark.usefixtures("undrawn")
def test_without_matplotlib_the_numbers_stay_and_a_line_says_what_draws_them(data):
    page = Page(render_page(data))
    assert NO_CHARTS in page.text
    assert all("open" in each for each in page.of("details"))
    assert len(page.of("svg")) == len(data.films[0].pictures)
    assert "Accuracy over training" in page.text


@pytest.mark.parametrize("sizes", [(5, 1), (7, 6, 5, 4, 3, 2, 4, 5, 6)])
def test_networks_of_one_neuron_and_of_many_layers_have_charts(sizes):
    data = page_data(sizes)
    layers = [each.layer for each in data.structure]
    for svg in (
        charts.histogram_chart("fan-in", data.structure, lambda each: each.fan_in, "x"),
        charts.raster_chart(data.rasters[-1], layers),
        charts.core_chart(data.cores.cores, layers),
        charts.agreement_chart(data.agreement, layers),
    ):
        assert Page(svg).open == []


def test_equal_data_give_equal_pages(html):
    assert html == render_page(page_data())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("sizes", [(5, 1), (7, 6, 5, 4, 3, 2, 4, 5, 6)])
def test_networks_of_one_neuron_and_of_many_layers_have_a_page(sizes):
    data = page_data(sizes)
    text = Page(render_page(data)).text
    more = len(sizes) - 1 > charts.SHOWN_LAYERS
    assert (f"The chart shows the first {charts.SHOWN_LAYERS} of {len(sizes) - 1} layers" in text) == more
