"""Menus, legend and theme of the figures in a real Chromium."""

import pytest

from matml.core.files import read_table, write_table, write_text
from matml.report.page import make_page
from matml.report.settings import ReportSection

api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install 'matml[test]'"
)
SEEN = """place => place.data.filter(t => t.visible === true && t.mode === 'markers')
    .map(t => `${t.meta.shots} ${t.meta.method} ${t.meta.family} ${t.x.length}`)"""


@pytest.fixture(scope="module")
def results(tmp_path_factory, write_results):
    folder = tmp_path_factory.mktemp("figures") / "results"
    write_results(folder)
    file = folder / "properties/evaluation/predictions.parquet"
    rows = read_table(file)
    rows["family"] = ["F1" if i % 4 else "F2" for i in range(len(rows))]
    rows["common_name"] = rows["family"]
    rows["shots"] = [10 if i % 2 else 5 for i in range(len(rows))]
    rows.loc[::3, "property"] = "refractive_index"
    write_table(file, rows)
    return folder


@pytest.fixture(scope="module")
def page(chromium_executable, results, tmp_path_factory):
    """One page of both tests."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    text, _ = make_page(results, ReportSection())
    write_text(file, text)
    told = []
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.on("console", lambda message: told.append((message.type, message.text)))
        page.on("pageerror", lambda error: told.append(("error", str(error))))
        page.goto(file.as_uri())
        page.evaluate("matml.drawAll()")
        yield page
        browser.close()
    assert [text for kind, text in told if kind in ("error", "warning")] == []


def wanted(results, shots, method="chosen", families=("F1", "F2")):
    rows = read_table(results / "properties/evaluation/predictions.parquet")
    rows = rows[(rows["property"] == "bulk_modulus_GPa") & (rows["shots"] == shots)]
    rows = rows.assign(role=rows["method"].replace("global_gp_gp", "chosen"))
    counts = rows[rows["role"] == method].groupby("family").size()
    return sorted(f"{shots} {method} {f} {n}" for f, n in counts.items() if f in families)


def test_menus_legend_and_theme(page, results):
    parity = page.locator(".figure-set", has=page.locator(".families"))
    place = parity.locator("[data-subject=bulk_modulus_GPa] .js-plotly-plot")

    def seen():
        return sorted(place.evaluate(SEEN))

    assert seen() == wanted(results, 10)
    parity.get_by_label("Labels of the family").select_option("5")
    assert seen() == wanted(results, 5)
    parity.locator("button", has_text="F2").click()
    assert seen() == wanted(results, 5, families=("F1",))
    assert parity.locator("button", has_text="F2").get_attribute("aria-pressed") == "false"
    # another theme draws anew, and keeps what was chosen
    before = place.evaluate("place => place.layout.font.color")
    page.locator("#theme").click()
    page.wait_for_function(
        "([id, colour]) => document.getElementById(id).layout.font.color !== colour",
        arg=[place.get_attribute("id"), before],
    )
    assert seen() == wanted(results, 5, families=("F1",))
    parity.locator("button", has_text="F2").click()
    parity.get_by_label("Method").select_option("pretrained")
    assert seen() == wanted(results, 5, "pretrained")
    # a property alone, and all again
    other = parity.locator("[data-subject=refractive_index]")
    assert other.is_visible()
    parity.get_by_label("Property").select_option("bulk_modulus_GPa")
    assert not other.is_visible()
    parity.get_by_label("Property").select_option("")
    assert other.is_visible()


def test_every_figure_says_what_it_shows_and_no_title_is_cut(page):
    for place in page.locator(".chart").all():
        assert len(place.get_attribute("aria-label")) > 20
    # with the page as wide as a small tablet
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(place => {
            const frame = place.getBoundingClientRect();
            return [...place.querySelectorAll('.xtitle, .ytitle')].filter(title => {
                const own = title.getBoundingClientRect();
                return own.width && (own.left < frame.left - 2 || own.right > frame.right + 2
                    || own.top < frame.top - 2 || own.bottom > frame.bottom + 2);
            }).map(title => title.textContent);
        })"""
    )
    assert cut == []
