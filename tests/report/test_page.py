import base64
import gzip
import json
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.report import report
from matml.core.errors import MatmlError
from matml.core.files import write_text
from matml.report.html.markup import number
from matml.report.page import make_page
from matml.report.sections.studies import STUDIES
from matml.report.settings import ReportSection

LOADING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src", "srcdoc"),
    "object": ("data",),
    "embed": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "form": ("action",),
    "base": ("href",),
    "use": ("href",),
    "image": ("href",),
}


class Page(HTMLParser):
    """What the tests look at: loads, table cells, ids, scripts, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads, self.values, self.ids, self.links = [], [], [], []
        self.policy, self.words, self.styles, self.json = "", [], [], []
        self._inside = ""
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script" and given.get("type") == "application/json":
            self._inside = "json"
        self.loads += [(tag, given[name]) for name in LOADING.get(tag, ()) if given.get(name)]
        self.styles.append(given.get("style") or "")
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.ids += [given["id"]] if "id" in given else []
        if "data-value" in given:
            self.values.append(given["data-value"])
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside == "json":
            self.json.append(data)
        elif not self._inside:
            self.words.append(data)

    @property
    def numbers(self):
        found = []
        for value in self.values:
            try:
                found.append(float(value))
            except ValueError:
                continue
        return found


@pytest.fixture(scope="module")
def made(finished):
    text, used = make_page(finished, ReportSection(title="A title of mine"))
    assert used > 15
    return text


@pytest.fixture(scope="module")
def page(made):
    return Page(made)


def test_the_page_loads_nothing(made, page):
    assert page.loads == []
    assert not any(re.search(r"url\(|@import", style) for style in page.styles)
    assert "default-src 'none'" in page.policy
    assert "connect-src" not in page.policy  # so default-src holds: no requests
    assert all(re.match(r"#|https://doi\.org/|data:application/zip;", link) for link in page.links)
    assert len(made.encode()) < 8e6


def test_the_page_of_many_candidates_grows_by_its_figures_alone(several_results, tmp_path):
    """20,000 candidates: as many elements as with a few hundred, and far below 8 MB."""
    shutil.copytree(several_results, tmp_path / "results")
    file = tmp_path / "results/screening/shortlist.csv"
    few = pd.read_csv(file)
    sizes, elements = [], []
    for rows in (400, 20_000):
        many = pd.concat([few, *[few.assign(cif="")] * (rows // len(few))], ignore_index=True)[
            :rows
        ]
        many["rank"] = many["score_rank"] = many.index + 1
        many.assign(id=[f"c/{row}" for row in range(rows)]).to_csv(file, index=False)
        text, _ = make_page(tmp_path / "results", ReportSection())
        sizes.append(len(text.encode()))
        elements.append(len(re.findall(r"<[a-z]", text)))
    assert sizes[1] < min(8e6, sizes[0] + 2e6)
    assert elements[1] == elements[0]


def test_plotly_is_inlined_once_and_ids_are_unique(made, page):
    [packed] = re.findall(r'id="plotly-code">(.*?)</script>', made)
    assert "plotly.js v" in gzip.decompress(base64.b64decode(packed)).decode("utf-8")
    assert len(packed) < 2.5e6
    assert len(page.ids) == len(set(page.ids))


def test_every_score_on_the_page_equals_its_file(finished, page):
    scores = pd.read_csv(finished / "properties/evaluation/scores.csv")
    kinetics = pd.read_csv(finished / "kinetics/simulated_ttt/scores.csv")
    shortlist = pd.read_csv(finished / "screening/shortlist.csv")
    for value in (*scores["value"], *kinetics["value"], *shortlist["prediction"]):
        assert value in page.numbers
        assert re.sub(r"<.*?>", "", number(value)) in page.text
    # and the other way round: no number in a table that no file holds
    files = [finished / "structures/families.csv", *finished.glob("kinetics/*/calibration/*/*.csv")]
    known = {
        float(value)
        for file in (*files, finished / "screening/shortlist.csv")
        for value in pd.read_csv(file).select_dtypes("number").to_numpy().ravel()
    }
    known |= set(scores["value"]) | set(scores["n_families"]) | set(kinetics["value"])
    known |= {1200.0, 34.0, 345.0, 2.0}  # sources, crystals and families with a value
    known.add(873.25 - 273.15)  # the nose, on the diagram's scale
    known |= {61.5, 33.0, 60.1, 812.0, 5.0}  # run times, observations given
    known |= {1.0, 2.0, 94.5, 120.2}  # jobs; sums of the run times
    assert set(page.numbers) - known == set()


def test_figures_hold_the_numbers_of_the_files(finished, page):
    drawn = set()

    def collect(value):
        if isinstance(value, dict):
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, (int, float)):
            drawn.add(value)

    for text in page.json:
        collect(json.loads(text))
    scores = pd.read_csv(finished / "properties/evaluation/scores.csv")
    ttt = pd.read_csv(next(finished.glob("kinetics/*/calibration/*/ttt.csv")))
    errors = scores[scores["metric"] == "mae_family_mean"]
    for value in (*errors["value"], *ttt["time_s"], *ttt["low_90_s"], *ttt["high_90_s"]):
        assert float(f"{value:.7g}") in drawn


def test_plotly_accepts_every_figure(page):
    from plotly.graph_objects import Figure

    specs = [json.loads(text) for text in page.json if '"layout"' in text[:100_000]]
    figures = [spec for spec in specs if isinstance(spec, dict)]
    assert len(figures) >= 8
    for spec in figures:
        Figure(data=spec["data"], layout=spec["layout"])


def test_simulated_data_are_labelled_wherever_shown(page):
    # overview, heading of the data set, its diagram
    assert page.text.lower().count("simulated data") >= 3


def test_licences_citations_seed_and_versions_are_told(page):
    for text in ("CC BY 4.0", "doi:10.1038/sdata.2015.9", "4711", "2.13.0", "given by the user"):
        assert text in page.text


def test_input_text_cannot_become_markup(made):
    assert "<script>alert(1)</script>" not in made
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made


def test_missing_parts_are_told_in_a_sentence(empty_results):
    text, used = make_page(empty_results, ReportSection())
    page = Page(text)
    assert used == 0
    assert "chart" not in "".join(re.findall(r'class="([^"]*)"', text))
    for sentence in ("read no crystals", "trained no property predictor", "screened no candidates"):
        assert sentence in page.text
    assert page.numbers == []


@pytest.mark.parametrize(
    "part", ["structures", "properties", "screening", "kinetics", "settings", "benchmarks"]
)
def test_a_page_can_be_made_without_any_part(results, part):
    shutil.rmtree(results / part)
    text, _ = make_page(results, ReportSection())
    assert len(Page(text).text) > 500


def test_a_calibration_alone_has_a_page_and_an_empty_folder_has_none(results, empty_results):
    folder = next((results / "kinetics").glob("*/calibration"))
    done = CliRunner().invoke(report, [str(folder)], catch_exceptions=False)
    assert done.exit_code == 0
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert {"kinetics", "methods"} <= set(page.ids)
    assert not {"shortlist", "predictors", "run"} & set(page.ids)
    assert "parameter" in page.text
    for sentence in ("has no scores", "held out", "computed nothing"):
        assert sentence not in page.text
    with pytest.raises(MatmlError, match="empty: holds no results; give the folder of a run"):
        CliRunner().invoke(report, [str(empty_results)], catch_exceptions=False)


def test_a_broken_result_file_is_named(results):
    file = results / "properties/evaluation/scores.csv"
    write_text(file, "property,unit\nx,y\n")
    with pytest.raises(MatmlError, match=r"scores\.csv: lacks the column 'method'; delete it"):
        make_page(results, ReportSection())


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(MatmlError, match="no such folder of results"):
        make_page(tmp_path / "none", ReportSection())


def test_limits_of_the_settings_are_kept(finished):
    text, _ = make_page(finished, ReportSection(candidates_shown=1, crystals_shown=0))
    page = Page(text)
    assert "The first 1 of 2" in page.text
    assert "crystal-data" not in page.ids


def test_studies_have_a_section_when_they_were_run(results, page):
    assert "studies" not in page.ids
    folder = results / "studies" / "prices"
    folder.mkdir(parents=True)
    write_text(folder / "returns.txt", "R2 <out of sample>  -0.0007")
    page = Page(make_page(results, ReportSection())[0])
    assert "studies" in page.ids
    assert "#studies" in page.links
    printed, lacking = page.text.split("Not run: ")
    assert f"{STUDIES['prices/returns']} R2 <out of sample> -0.0007" in printed
    others = [title for name, title in STUDIES.items() if name != "prices/returns"]
    assert lacking.startswith(" ".join(others))


def test_the_benchmark_has_a_section_when_it_was_run(results, page):
    folder = results
    assert "benchmark" not in page.ids
    records = [
        {
            "benchmark": "properties",
            "setting": "B, within a family, bulk_modulus_GPa",
            "method": method,
            "is_default": method == "label_process",
            "shots": shots,
            "metric": "mae_log10(GPa)_family_mean",
            "value": value / shots,
            "low": 0.5 * value / shots,
            "high": 2.5 * value / shots,
            "n_tasks": 14,
            "seed": 0,
        }
        for method, value in (("support_gp", 0.8125), ("label_process", 0.4375))
        for shots in (5, 10)
    ]
    (folder / "properties-benchmark").mkdir()
    write_text(folder / "properties-benchmark/B.json", json.dumps(records))
    write_text(folder / "properties-benchmark/B.txt", "all <tables>")
    page = Page(make_page(folder, ReportSection())[0])
    assert "benchmark" in page.ids
    assert {"0.1625", "0.0875", "0.08125", "0.04375"} <= set(page.values)
    assert "Within a family, Bulk modulus" in page.text
    assert "log10(GPa)" in page.text
    assert "all <tables>" in page.text
    write_text(folder / "properties-benchmark/B.json", json.dumps([{"setting": "B"}]))
    with pytest.raises(MatmlError, match="its records lack 'method'"):
        make_page(folder, ReportSection())
