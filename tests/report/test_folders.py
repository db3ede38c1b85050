"""Pages of what one command wrote into a folder."""

import re
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from matml.cli.kinetics.commands import kinetics
from matml.cli.report import report
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.from_files import save_adapted
from matml.report.html.markup import number
from matml.report.page import make_page
from matml.report.settings import ReportSection

CONSTANTS = {"LiF": 4.03, "NaCl": 5.64, "KBr": 6.60, "MgO": 4.21}
MODULI = (67.0, 24.0, 15.0, 160.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A steel's diagram with a point, proposed experiments, and an adapted predictor."""
    place = tmp_path_factory.mktemp("folders")
    points = place / "points.csv"
    points.write_text("alloy,temperature_C,time_s,ttt_fraction\nX,650,20,0.01\n")
    hardness = place / "hardness.csv"
    hardness.write_text("alloy,temperature_C,time_h,hardness_HRC\nX,400,1,50\nX,600,1,33\n")
    design = ["--prior", "tempering", "--data", hardness, "--points", "2"]
    for name, arguments in {
        "diagram": ["--composition", "C=0.4,Mn=0.7", "--pearlite", points],
        "design": design,
    }.items():
        line = [name, *map(str, arguments), "--out", str(place / name)]
        done = CliRunner().invoke(kinetics, line, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    crystals = [
        Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(a), re.findall("[A-Z][a-z]?", formula), [[0] * 3, [0.5] * 3]
        )
        for formula, a in CONSTANTS.items()
    ]
    adapted = FewShotPredictor.load().adapt(crystals, MODULI, "bulk_modulus_GPa")
    save_adapted(adapted, place / "adapted")
    return place


@pytest.mark.parametrize(
    ("name", "title", "figures"),
    [
        ("diagram", "Diagram of a steel (0.4 C, 0.7 Mn)", ["cct", "ttt"]),
        ("design", "What to measure next of X", ["design"]),
        ("adapted", "Adapted to bulk modulus", []),
    ],
)
def test_a_folder_of_one_command_has_a_page(folders, tmp_path, name, title, figures):
    drawn, page = tmp_path / "figures", tmp_path / "page.html"
    line = [str(folders / name), "--out", str(page), "--figures", str(drawn)]
    done = CliRunner().invoke(report, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert f">{title}</h2>" in text
    assert "has calibrated no kinetic equation" not in text
    assert sorted(path.stem for path in drawn.glob("*.svg")) == figures
    # the same numbers as the files
    if name == "diagram":
        lines = pd.read_csv(folders / "diagram/temperatures.csv")
        for row in lines.itertuples():
            assert re.search(rf"{row.line}</td><td[^>]*>{number(row.temperature_C)}<", text)
        assert "pearlite, measured" in text
        assert "650" in (drawn / "ttt.csv").read_text(encoding="utf-8")
    if name == "design":
        left = pd.read_csv(folders / "design/design.csv")["variance_left"]
        for share in left:
            assert f"{number(100 * share, 2)} %" in text
    if name == "adapted":
        for value in MODULI:
            assert re.search(rf"<td[^>]*>{number(value)}<", text)
        assert "Learned from 4 labels" in text


def test_a_page_goes_without_what_is_not_there(folders, tmp_path):
    folder = shutil.copytree(folders / "design", tmp_path / "design")
    (folder / "candidates.csv").unlink()
    page, used = make_page(folder, ReportSection())
    assert used == 3
    assert "variance left</th>" in page
    assert "data-for=" not in page
