"""Static files of the figures: whole, from the same numbers, and for every figure."""

import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from matml.core.files import read_table
from matml.figures import static
from matml.figures.figure import Axis, Figure, Panels, Series, with_common_y
from matml.figures.plotly import specification
from matml.figures.static import render, render_panels
from matml.figures.static import table as numbers_of
from matml.report import figure_files
from matml.report.figure_files import all_figures, write_figures
from matml.report.html.results import Results


def test_every_figure_has_three_files_with_the_numbers_of_the_results(finished, tmp_path):
    folder = tmp_path / "figures"
    number = write_figures(Results(finished), folder)
    figures = all_figures(Results(finished))
    assert number == len(figures) >= 9
    names = {figure.name for figure in figures}
    assert len(names) == len(figures)
    for kind in ("png", "svg", "csv"):
        assert {file.stem for file in folder.glob(f"*.{kind}")} == names
    for kind in ("learning-curve", "parity", "calibration", "map", "pareto", "ttt", "errors"):
        assert any(name.startswith(kind) for name in names)
    for file in folder.glob("*.png"):
        with Image.open(file) as picture:
            colours = picture.convert("RGB").getcolors(1_000_000)
        # white alone would be an empty picture
        assert len(colours) > 20
    for file in folder.glob("*.svg"):
        assert file.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert not list(folder.parent.glob(".figures-*"))
    kept = read_table(finished / "properties/evaluation/predictions.parquet")
    table = pd.read_csv(folder / "parity-bulk_modulus_GPa.csv")
    assert len(table) == len(kept)
    own = table[table["method"] == "chosen"].sort_values("calculated bulk modulus (GPa)")
    wanted = kept[kept["method"] == "global_gp_gp"].sort_values("truth")
    assert np.allclose(own["calculated bulk modulus (GPa)"], wanted["truth"], rtol=1e-4)
    assert np.allclose(own["predicted bulk modulus (GPa)"], wanted["prediction"], rtol=1e-4)
    assert np.allclose(own["plus"], 20, rtol=1e-3)
    assert set(own["about"]) == {"SrTiO3"}
    scores = pd.read_csv(finished / "properties/evaluation/scores.csv")
    errors = scores[
        (scores["property"] == "refractive_index") & (scores["metric"] == "mae_family_mean")
    ]
    drawn = pd.read_csv(folder / "learning-curve-refractive_index.csv")
    drawn = drawn["mean absolute error"].dropna()
    assert np.allclose(np.sort(drawn), np.sort(errors["value"]), rtol=1e-6)


@pytest.fixture(scope="module")
def picked(finished):
    """Two figures only, since each takes half a second to write: a map and a parity plot."""
    found = all_figures(Results(finished))
    return [next(d for d in found if d.name.startswith(kind)) for kind in ("map", "parity")]


@pytest.fixture
def two(picked, monkeypatch):
    monkeypatch.setattr(figure_files, "all_figures", lambda _: picked)


@pytest.fixture(scope="module")
def written(picked, finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_files, "all_figures", lambda _: picked)
        write_figures(Results(finished), folder)
    return folder


@pytest.fixture
def few(two, written, tmp_path):
    return shutil.copytree(written, tmp_path / "few")


def test_the_same_run_writes_the_same_files(finished, few, tmp_path):
    folder = few
    again = tmp_path / "again"
    write_figures(Results(finished), again)
    for file in folder.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_a_failure_leaves_the_old_folder(finished, few, monkeypatch):
    folder = few
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def fail(figure):
        raise RuntimeError("no ink")

    monkeypatch.setattr(static, "render", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        write_figures(Results(finished), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert not list(folder.parent.glob(".few-*"))


def test_stale_figures_go(finished, few):
    folder = few
    (folder / "old.png").write_bytes(b"")
    write_figures(Results(finished), folder)
    assert not (folder / "old.png").exists()


def test_numbers_of_labels_stand_side_by_side(results):
    rows = read_table(results / "properties/evaluation/predictions.parquet")
    rows = pd.concat([rows, rows.assign(shots=5, prediction=rows["truth"])])
    rows.to_parquet(results / "properties/evaluation/predictions.parquet")
    figure = next(d for d in all_figures(Results(results)) if d.name.startswith("parity"))
    panels = render(figure).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["5 labels", "10 labels"]
    # the panel of five labels has points on the diagonal alone, the other one has not
    for axes, exact in zip(panels, (True, False), strict=True):
        points = np.concatenate(
            [c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)]
        )
        assert len(points) == 40
        assert np.allclose(points[:, 0], points[:, 1], rtol=1e-4) == exact


def test_no_results_no_figures(empty_results, tmp_path):
    assert write_figures(Results(empty_results), tmp_path / "figures") == 0
    assert list((tmp_path / "figures").iterdir()) == []


def test_empty_numbers_of_a_figure_without_points(finished):
    for figure in all_figures(Results(finished)):
        assert len(numbers_of(figure)) > 0


def test_the_command_writes_page_and_figures(two, finished, tmp_path):
    from click.testing import CliRunner

    from matml.cli.main import cli

    out, folder = tmp_path / "report.html", tmp_path / "papers"
    arguments = ["report", str(finished), "--out", str(out), "--figures", str(folder)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "2 figures, each as PNG, SVG and CSV" in done.output
    assert out.is_file()
    assert len(list(folder.glob("*.png"))) == 2


def test_panels_stand_in_rows_with_one_legend():
    def panel(title: str, y: list[float], **axis) -> Figure:
        line = Series([1, 2], y, "line", width=2, low=[v - 1 for v in y], high=[v + 1 for v in y])
        return Figure(title, title, Axis("x", marks=[1.5]), Axis("y", **axis), [line], "note")

    above, below = with_common_y([panel("a", [2, 3]), panel("b", [20, 30])]), [panel("c", [0, 1])]
    assert above[0].y.ends == above[1].y.ends == (1 - 1.5, 31 + 1.5)
    sheet = render_panels(Panels("all", [above, below]))
    axes = sheet.get_axes()
    assert [a.get_title(loc="left") for a in axes] == ["a\nnote", "b\nnote", "c\nnote", ""]
    assert [a.get_visible() for a in axes] == [True, True, True, False]
    assert axes[0].get_ylim() == axes[1].get_ylim() != axes[2].get_ylim()
    # the mark crosses each panel, in a file and on a page
    assert all(line.get_xdata()[0] == 1.5 for a in axes[:3] for line in a.lines[-1:])
    (shape,) = specification(below[0])["layout"]["shapes"]
    assert (shape["x0"], shape["x1"], shape["yref"]) == (1.5, 1.5, "paper")
    logs = with_common_y([panel("a", [0.5, 3], log=True), panel("b", [20, 30], log=True)])
    assert logs[0].y.ends == pytest.approx((0.5 / 1.1, 31 * 1.1))


def test_letters_that_the_font_lacks_are_said_in_one_line(tmp_path, caplog, recwarn):
    axis = Axis("time (s)")
    figure = Figure("ttt", "钢 1", axis, axis, [Series([1, 2], [1, 2])])
    static.write(figure, [tmp_path / "ttt.png"])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'ttt.png'}: the font lacks letters of it, which are drawn as boxes"
    ]
    assert not recwarn.list
