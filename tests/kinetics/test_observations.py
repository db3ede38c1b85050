"""Observations: what is read, what is quarantined and why, what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from matml.core.errors import MatmlError
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.observations import read_observations
from matml.kinetics.inference.diagnostics import design_notes

HEADER = "alloy,temperature_C,time_s,fraction_transformed\n"
GOOD = "A,700,10,0.2\nA,700,30,0.6\nA,750,10,0.5\n"


def write(folder, text, name="data.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_kelvin_and_celsius_alike(tmp_path):
    celsius = read_observations(write(tmp_path, HEADER + GOOD))
    kelvin = read_observations(
        write(tmp_path, HEADER.replace("_C", "_K") + "A,973.15,10,0.2\n", "k.csv")
    )
    assert celsius.kind == "fraction"
    assert celsius.points["temperature_K"].tolist() == pytest.approx([973.15, 973.15, 1023.15])
    assert kelvin.points["temperature_K"].tolist() == [973.15]
    assert not celsius.simulated


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ("A,700,-10,0.2", "time_s", "time must be positive"),
        ("A,700,0,0.2", "time_s", "time must be positive"),
        ("A,700,10,1.2", "fraction_transformed", "between 0 and 1"),
        ("A,700,10,-0.1", "fraction_transformed", "between 0 and 1"),
        ("A,700,10,half", "fraction_transformed", "is not a number"),
        ("A,700,10,nan", "fraction_transformed", "is not finite"),
        ("A,700,,0.2", "time_s", "is empty"),
        ("A,hot,10,0.2", "temperature_C", "is not a number"),
        ("A,-400,10,0.2", "temperature_C", "too cold"),
        ("A,5000,10,0.2", "temperature_C", "above the melting point"),
        (",700,10,0.2", "alloy", "is empty"),
    ],
)
def test_bad_rows_are_quarantined_and_the_rest_goes_on(tmp_path, row, field, reason):
    result = read_observations(write(tmp_path, HEADER + GOOD + row + "\n"))
    assert len(result.points) == 3
    (entry,) = result.quarantine.to_dict("records")
    assert entry["line"] == 5
    assert entry["field"] == field
    assert reason in entry["reason"]
    assert entry["remedy"]


def test_percent_is_suspected(tmp_path):
    result = read_observations(write(tmp_path, HEADER + GOOD + "A,700,100,85\n"))
    assert "percent" in result.quarantine["remedy"][0]


def test_duplicates_are_kept_once(tmp_path):
    result = read_observations(write(tmp_path, HEADER + GOOD + "A,700,30,0.6\n"))
    assert len(result.points) == 3
    assert result.quarantine["reason"].tolist() == ["repeats line 3"]


def test_an_alloy_in_celsius_called_kelvin_is_set_aside_whole(tmp_path):
    """Its warmer rows would else be read as kelvin."""
    header = HEADER.replace("_C", "_K")
    text = header + "A,190,10,0.2\nA,450,10,0.2\nB,800,10,0.2\nB,850,10,0.2\n"
    result = read_observations(write(tmp_path, text))
    assert "Celsius given as kelvin" in result.quarantine["remedy"][0]
    assert result.quarantine["value"].tolist() == ["190", "450"]
    # one row that is mistyped is one row
    result = read_observations(write(tmp_path, header + "A,90,10,0.2\nA,900,10,0.2\n"))
    assert result.quarantine["value"].tolist() == ["90"]


@pytest.mark.parametrize(
    ("column", "others", "odd", "meant"),
    [
        ("temperature_K", (900, 1000), (640, 700), "Celsius given as kelvin"),
        ("temperature_C", (627, 727), (910, 980), "kelvin given as Celsius"),
    ],
)
def test_a_suspicious_range_is_named_with_evidence(tmp_path, column, others, odd, meant):
    rows = [f"{name},{t},10,0.5" for name in "ABCD" for t in others]
    rows += [f"E,{t},10,0.5" for t in odd]
    text = f"alloy,{column},time_s,fraction_transformed\n" + "\n".join(rows) + "\n"
    (warning,) = read_observations(write(tmp_path, text)).warnings
    assert "'E'" in warning
    assert meant in warning
    assert "4 other alloys" in warning


def test_an_alloy_with_nothing_left_is_named(tmp_path):
    result = read_observations(write(tmp_path, HEADER + GOOD + "B,700,-1,0.5\n"))
    assert result.names == ["A"]
    assert "alloy 'B' has no usable row left (time must be positive)" in result.warnings[0]


def test_rows_without_a_name_are_of_one_alloy(tmp_path):
    table = "temperature_C,time_s,sample,hardness_HRC\n500,1,1,50\n550,1,2,4x\n600,1,3,45\n"
    result = read_observations(write(tmp_path, table))
    assert result.names == ["data"]
    assert "no column 'alloy': all rows are taken as one alloy, 'data'" in result.notes
    assert result.quarantine["value"].tolist() == ["4x"]
    alloys = tmp_path / "alloys.csv"
    alloys.write_text("alloy,C_wt_pct\nX 40,0.4\n")
    assert read_observations(write(tmp_path, table), alloys).names == ["X 40"]
    alloys.write_text("alloy,C_wt_pct\nX 40,0.4\nX 50,0.5\n")
    with pytest.raises(MatmlError, match="column 'alloy' is missing"):
        read_observations(write(tmp_path, table), alloys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alloy,time_s,fraction_transformed\nA,1,0.5\n", "no temperature column"),
        ("alloy,temperature_C,temperature_K,time_s,hardness_HRC\n", "both temperature_K"),
        (
            "güte,temperature_C,time_s,hardness_HRC\nX,500,1,50\n4140,500,1,40\n",
            r"column 'alloy' is missing, and 'güte' \(X, 4140\) may name several.* give a column",
        ),
        (
            "specimen_no,temperature_C,time_s,hardness_HRC\n1,500,1,50\n1,550,1,45\n2,500,1,40\n",
            r"'specimen_no' \(1, 2\) may name several: call it 'alloy' if it does, 'run' if",
        ),
        ("alloy,temperature_C,fraction_transformed\nA,1,0.5\n", "column 'time_s' is missing"),
        ("alloy,temperature_C,time_s\nA,1,1\n", "no measured column.* the columns are alloy, "),
        ("alloy,temperature_C,time_s,hardness_HRC,ttt_fraction\n", "give exactly one"),
        (HEADER + "A,700,-1,0.5\n", "no usable row among 1; the first: line 2, time_s = '-1'"),
        (HEADER, "no usable row"),
        ("", "is empty"),
    ],
)
def test_what_cannot_go_on_is_one_clear_error(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(MatmlError, match=message) as caught:
        read_observations(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(MatmlError, match="no such file"):
        read_observations(tmp_path / "none.csv")


def test_alloy_table_groups_twins(tmp_path):
    points = write(tmp_path, HEADER + "".join(f"{a},700,{t},0.5\n" for a in "ABCD" for t in (1, 2)))
    alloys = write(
        tmp_path,
        "alloy,steel,C_wt_pct,Mn_wt_pct\nA,x,0.40,0.70\nB,y,0.41,0.73\nC,x,0.90,0.2\nD,z,0.2,1.5\n",
        "alloys.csv",
    )
    table = read_observations(points, alloys).alloys.set_index("alloy")["composition_group"]
    # A and B by composition, C with A by its name
    assert table["A"] == table["B"] == table["C"] != table["D"]


def test_given_groups_win_and_bad_alloy_tables_are_refused(tmp_path):
    points = write(tmp_path, HEADER + GOOD + "B,700,5,0.5\n")
    alloys = write(tmp_path, "alloy,composition_group,C_wt_pct\nA,g,0.4\nB,h,0.4\n", "a.csv")
    assert read_observations(points, alloys).alloys["composition_group"].tolist() == ["g", "h"]
    lacking = write(tmp_path, "alloy,C_wt_pct\nA,0.4\n", "b.csv")
    assert "no row for alloy 'B'" in read_observations(points, lacking).warnings[0]
    for text, message in (
        ("alloy,C_wt_pct\nA,0.4\nA,0.5\n", "appears twice"),
        ("alloy,C_wt_pct\nA,much\n", "C_wt_pct = 'much'"),
        ("name,C_wt_pct\nA,0.1\n", "column 'alloy' is missing"),
    ):
        with pytest.raises(MatmlError, match=message):
            read_observations(points, write(tmp_path, text, "c.csv"))


def test_ttt_fraction_under_both_names(tmp_path):
    for column in ("ttt_fraction", "assumed_fraction"):
        path = write(tmp_path, f"alloy,temperature_C,time_s,{column}\nA,600,10,0.01\nA,600,99,1\n")
        result = read_observations(path)
        assert result.kind == "ttt"
        assert result.points["fraction"].tolist() == [0.01]
        assert "strictly" in result.quarantine["reason"][0]


def test_what_the_design_leaves_open_is_said():
    def table(temperatures, fractions):
        return pd.DataFrame({"temperature_K": temperatures, "fraction": fractions})

    def said(points):
        return design_notes(points, on_history(points))

    assert "one observation" in said(table([900.0], [0.5]))[0]
    notes = said(table([900.0, 900.0], [0.5, 0.5]))
    assert "one temperature" in notes[0]
    assert "one fraction" in notes[1]
    assert said(table([900.0, 950.0], [0.01, 0.99])) == []
    # a furnace's scatter is no second temperature; on a ramp that ends there it may be one
    scattered = table([900.3, 899.4, 900.1], [0.01, 0.5, 0.99])
    assert "one temperature" in said(scattered)[0]
    ramps = scattered.assign(start_temperature_K=[300.0, 600.0, 800.0])
    assert said(ramps) == []
    halves = pd.DataFrame({"temperature_K": [900.0, 950.0], "fraction_transformed": [0.5, 0.51]})
    assert "one fraction" in said(halves)[0]


def real_folder():
    given = os.environ.get("MATML_KINETICS_DATA")
    folder = Path(given) if given else Path(__file__).parents[3] / "shared" / "data" / "kinetics"
    if not folder.is_dir():
        pytest.skip("no real kinetics data: set MATML_KINETICS_DATA to the folder")
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "alloys", "points", "groups"),
    [("stainless_ttt", "ttt", 42, 4835, 37), ("tempering", "hardness", 37, 1466, 34)],
)
def test_real_sets_are_read_whole(name, kind, alloys, points, groups):
    folder = real_folder()
    result = read_observations(folder / f"{name}_points.csv", folder / f"{name}_alloys.csv")
    assert result.kind == kind
    assert len(result.names) == alloys
    assert len(result.points) + len(result.quarantine) == points
    assert result.alloys["composition_group"].nunique() <= groups
    assert not result.simulated
    assert result.warnings == []


def test_a_file_is_read_before_torch_is_imported():
    """A faulty file is refused at once: torch takes longer to import than most files to read."""
    code = (
        "import sys; from matml.kinetics.data.prepare import read_and_report; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
