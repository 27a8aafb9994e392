"""``esl-neuro report``: one file that a browser shows in any light and width, without a network."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator

import pytest

from system.chromium import Browser, find_chromium
from system.command_workspace import Workspace

SECTIONS = (
    *("summary", "training", "training-cost", "rewiring", "structure", "activity", "fidelity", "cores", "energy"),
    *("break-even", "verification", "commands", "sources"),
)
LARGEST = 5_000_000  # bytes


@pytest.fixture(scope="module")
def space(small_workspace, tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(small_workspace, folder, dirs_exist_ok=True)
    return Workspace(folder)


@pytest.fixture(scope="module")
def page(space):
    """The report of the run."""
    done = space.once("esl-neuro report")
    assert done.returncode == 0, done.stderr
    return space.folder / "runs" / "mlp-digits-001" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with Browser(program) as opened:
        yield opened


def test_the_report_of_the_latest_run_is_one_small_file_in_it(page, space):
    assert space.once("esl-neuro report").stdout.startswith("runs/mlp-digits-001/report.html: report of mlp-digits, 0.")
    assert page.stat().st_size < LARGEST
    for section in SECTIONS:
        assert f'<section id="{section}"' in page.read_text()


def test_json_prints_what_was_written_in_the_place_of_an_earlier_file(space, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without any browser
    monkeypatch.delenv("BROWSER", raising=False)
    out = tmp_path / "a b.html"
    out.write_text("x" * 10**6)
    out.chmod(0o640)
    command = f"esl-neuro report runs/mlp-digits-001/loihi2 --out '{out}' --samples 20 --open --json"
    document = space.json(command)
    assert document["file"] == str(out)
    assert document["bytes"] == out.stat().st_size
    assert document["data"]["accuracies"]["samples_integer"] == 20
    assert out.read_text().endswith("</html>")
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert "no browser was found" in space.once(command).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("nosuch", "nosuch: there is no such run, export or NIR file"),
        ("--out nosuch/a.html", "the folder 'nosuch' does not exist"),
        ("runs", "runs: not an export"),
        ("runs/mlp-digits-001/loihi2/model.nir", "give --input FILE, or --rate"),
        ("--rate 2", "Invalid value for '--rate'"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(space, options, message):
    done = space.run(f"esl-neuro report {options}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


# In Chromium.

WIDTHS = (1280, 768, 360)
OUTSIDE = """[...document.querySelectorAll('figure > svg')].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const own = text.getBoundingClientRect();
    return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
  }).map(text => text.textContent);
})"""
OVERFLOWING = """[...document.querySelectorAll('h1, h2, h3, p, dt, dd, figcaption, summary, label, figure, li')]
  .filter(each => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline')
  .map(each => each.textContent.slice(0, 40))"""
CONTRAST = """(() => {
  const luminance = colour => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map(each => each / 255)
      .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = each => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/rgba.*, 0\\)$/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const kinds = 'h1, h1 span, h2, h3, p, a, dt, dd, figcaption, summary, th, td, code, strong';
  const texts = [...document.querySelectorAll(kinds)];
  const drawn = [...document.querySelectorAll('figure > svg text')];
  const ratio = (each, colour) => {
    const [low, high] = [luminance(colour), luminance(behind(each))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  return Math.min(...texts.map(each => ratio(each, getComputedStyle(each).color)),
                  ...drawn.map(each => ratio(each, getComputedStyle(each).fill)));
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_whole_quiet_and_readable(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    assert browser.messages == []
    assert browser.requests == [page.absolute().as_uri()]
    assert browser.value("[...document.querySelectorAll('main > section')].map(each => each.id)") == list(SECTIONS)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OUTSIDE) == []
    assert browser.value(OVERFLOWING) == []
    assert browser.value(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
    shade = browser.value("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0]")
    assert (int(shade) < 64) == dark


def test_no_script_runs(browser, page, tmp_path):
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(page.read_text().replace("</main>", "<script>document.title = 'ran'</script></main>"))
    browser.open(spoiled, 1280)
    assert browser.value("document.title").startswith("mlp-digits")
    assert any("Content Security Policy" in message for message in browser.messages)


def test_the_film_plays_only_when_asked_and_never_with_reduced_motion(browser, page):
    frames = "[...document.querySelectorAll('.film li')].map(each => getComputedStyle(each).animationName)"
    tick = "document.querySelector('.film-box input').click()"
    browser.open(page, 1280)
    assert set(browser.value(frames)) == {"none"}
    browser.value(tick)
    assert set(browser.value(frames)) == {f"film-{len(browser.value(frames))}"}
    browser.open(page, 1280, calm=True)
    browser.value(tick)
    assert set(browser.value(frames)) == {"none"}


def test_on_paper_every_table_is_open(browser, page):
    browser.open(page, 800, media="print")
    heights = "[...document.querySelectorAll('details table')].map(each => each.getBoundingClientRect().height)"
    assert browser.value(heights)
    assert min(browser.value(heights)) > 0


def test_the_tab_key_reaches_links_tables_and_the_film(browser, page):
    browser.open(page, 1280)
    reached = []
    for _ in range(25):
        for kind in ("keyDown", "keyUp"):
            browser.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(browser.value("document.activeElement.tagName"))
    assert reached[0] == "A"
    assert {"A", "SUMMARY", "INPUT"} <= set(reached)
