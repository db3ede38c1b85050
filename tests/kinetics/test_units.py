"""Columns in the units that people measure in: read, or refused by name."""

import re

import numpy as np
import pandas as pd
import pytest

from matml.core.errors import MatmlError
from matml.kinetics.data.alloys import read_alloys
from matml.kinetics.data.observations import read_observations
from matml.kinetics.data.thermal_history import read_history
from matml.kinetics.data.units import QUANTITIES, in_usual_units, usual_name


def read(folder, text, name="data.csv", encoding="utf-8"):
    path = folder / name
    path.write_text(text, encoding=encoding)
    return read_observations(path)


USUAL = "alloy,temperature_K,time_s,fraction_transformed\nA,873.15,600,0.35\n"


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("alloy,temperature_C,time_min,fraction_transformed", "A,600,10,0.35"),
        ("Alloy,Temperature (°C),Time (min),Fraction transformed (%)", "A,600,10,35"),
        ("alloy,Temperature [K],time / s,fraction_transformed_pct", "A,873.15,600,35"),
        ("alloy,temperature_F,time_h,fraction_transformed", "A,1112,0.16666666666666666,0.35"),
        ("ALLOY,Temperature/°C,Time/hours,fraction_transformed_percent", "A,600,0.1666667,35"),
        ("alloy,temperature_celsius,time_ms,fraction_transformed", "A,600,600000,0.35"),
        ("Stahl;Temperatur [°C];Zeit [min];Umgewandelter Anteil [%]", "A;600;10;35"),
        ("Steel,T (°C),t (min),Transformed fraction %", "A,600,10,35"),
        ("Legierung,Haltetemperatur °C,Haltezeit min,recrystallized fraction", "A,600,10,0.35"),
    ],
)
def test_headers_name_their_units(tmp_path, header, row):
    expected = read(tmp_path, USUAL).points
    found = read(tmp_path, f"{header}\n{row}\n")
    columns = ["alloy", "temperature_K", "time_s", "fraction_transformed"]
    pd.testing.assert_frame_equal(found.points[columns], expected[columns], rtol=1e-6)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_unit_word_of_every_quantity_is_read_to_the_same_number(quantity):
    units = QUANTITIES[quantity]
    for unit in units:
        number = unit.table[0][5] if unit.table else 2.0
        (expected,) = unit.usual(np.array([number]))
        for word in unit.words:
            for header in (f"{quantity}_{word}", f"{quantity.replace('_', ' ').title()} ({word})"):
                table = in_usual_units(pd.DataFrame({header.rstrip("_"): [str(number)]}), "f")
                assert list(table.cells) == [usual_name(quantity)], header
                assert float(table.cells.iloc[0, 0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("header", "value"),
    [("Härte [HRC]", "40,5"), ("HRC", "40,5"), ("Dureté (HRC)", "40,5"), ("Härte HV10", "397")],
)
def test_hardness_by_other_names(tmp_path, header, value):
    text = f"Anlasstemperatur [°C];Anlassdauer [h];{header}\n500;1,5;{value}\n"
    points = read(tmp_path, text, encoding="latin-1").points
    assert points["hardness_HRC"].tolist() == pytest.approx([40.5])
    assert points["time_s"].tolist() == [5400.0]
    assert points["alloy"].tolist() == ["data"]


def test_clocks_are_seconds_and_of_two_parts_asked_for(tmp_path):
    head = "alloy,temperature_C,time_s,fraction_transformed\n"
    found = read(tmp_path, head + "A,600,00:01:00,0.1\nA,600,90,0.2\nA,600,1:00:00.5,0.3\n")
    assert found.points["time_s"].tolist() == [60, 90, 3600.5]
    assert "column 'time_s': clocks, h:mm:ss, read as seconds" in found.notes
    found = read(tmp_path, head + "A,600,1:00,0.1\nA,600,00:01:30,0.2\n")
    assert found.points["time_s"].tolist() == [90]
    assert found.quarantine["remedy"].tolist() == ["give seconds, or h:mm:ss in time_s"]


def test_starts_at_time_zero_are_left_aside_and_others_refused(tmp_path):
    head = "alloy,temperature_C,time_s,fraction_transformed\n"
    found = read(tmp_path, head + "A,600,0,0\nA,600,0,0.003\nA,600,9,0.1\nA,600,0,0.2\n")
    assert found.points["line"].tolist() == [4]
    assert found.quarantine["line"].tolist() == [5]
    assert any("2 row(s) of time 0" in note for note in found.notes)


def test_vickers_is_converted_by_the_stated_table_and_not_beyond_it(tmp_path):
    rows = "A,600,60,513\nA,600,600,2000\nA,600,90,162\nA,600,90,HB 300\n"
    found = read(tmp_path, "alloy,temperature_C,time_min,hardness_HV\n" + rows)
    assert found.points["hardness_HRC"].tolist() == pytest.approx([50.0, 2 / 3])
    table = found.quarantine.set_index("line")
    assert table.loc[3, "field"] == "hardness_HV"
    assert table.loc[3, "value"] == "2000"
    assert "160 to 940" in table.loc[3, "reason"]
    assert table.loc[5, "reason"] == "is not a number"
    assert any("ASTM E140" in note for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "cells", "sigma"),
    [
        ("hardness_HV,sigma_HV", "446,12", 1.0),
        ("hardness_HV,sigma_HRC", "446,1.5", 1.5),
        ("hardness_HRC,sigma [HV]", "45,12", 1.0),
        ("fraction_transformed_pct,sigma_pct", "35,2", 0.02),
        ("fraction_transformed,Sigma (%)", "0.35,2", 0.02),
        ("fraction_transformed_pct,sigma_fraction", "35,0.02", 0.02),
        ("fraction_transformed,sigma", "0.35,0.02", 0.02),
        ("peak_temperature_F,heating_rate_K_per_s,sigma_F", "900,1,9", 5.0),
    ],
)
def test_a_standard_deviation_is_converted_with_what_was_measured(tmp_path, columns, cells, sigma):
    found = read(tmp_path, f"alloy,temperature_C,time_s,{columns}\nA,600,60,{cells}\n")
    assert found.points["sigma"].tolist() == pytest.approx([sigma], rel=0.05)
    assert len(found.points) == 1


@pytest.mark.parametrize(
    ("columns", "cells", "told"),
    [
        ("hardness_HV,sigma", "446,10", "Call it sigma_HV or sigma_HRC"),
        ("fraction_transformed_pct,sigma", "35,0.5", "Call it sigma_pct or sigma_fraction"),
        ("hardness_HRC,sigma,sigma_HV", "45,1,10", "has both sigma and sigma_HV; give one"),
    ],
)
def test_a_standard_deviation_without_its_unit_is_asked_for(tmp_path, columns, cells, told):
    with pytest.raises(MatmlError, match=told):
        read(tmp_path, f"alloy,temperature_C,time_s,{columns}\nA,600,60,{cells}\n")


@pytest.mark.parametrize("name", ["std", "error (%)", "fraction_transformed_error", "sigma_HV"])
def test_uncertainties_by_other_names_are_named(tmp_path, name):
    head = "alloy,temperature_C,time_s,fraction_transformed,terror,sigma_phase_pct,"
    found = read(tmp_path, f"{head}{name}\nA,600,60,0.3,1,1,2\n")
    assert [note.split(" is ")[0] for note in found.notes] == [f"column {name!r}"]


def test_percents_that_are_fractions_are_set_aside_and_starts_are_not(tmp_path):
    head = "alloy,temperature_C,time_s,fraction_transformed_pct\n"
    rows = "A,600,60,0.12\nA,600,300,0.55\nA,600,900,0.93\nB,600,60,12\nB,600,300,55\n"
    starts = "C,600,60,0.1\nC,600,90,0.5\nC,650,60,1\nC,700,60,1\nC,700,900,99\nD,600,60,1\n"
    found = read(tmp_path, head + rows + starts)
    assert found.quarantine["line"].tolist() == [2, 3, 4]
    assert "fractions?" in found.quarantine["reason"][0]
    assert not found.warnings[1:]
    head = "alloy,temperature_C,time_s,ttt_fraction_pct,strain_pct\n"
    found = read(tmp_path, head + "A,600,60,0.1,0.3\nA,600,90,1,0.8\n")
    assert [("strain_pct" in w, "fractions?" in w) for w in found.warnings] == [(True, True)]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("alloy,temperature_C,time_weeks,fraction_transformed", "'time_weeks' names the unit"),
        ("alloy,temperature_C,time,fraction_transformed", "'time' names no unit: call it one of"),
        ("alloy,temperature,time_s,fraction_transformed", "'temperature' names no unit"),
        ("alloy,temperature_C,time_s,hardness", "'hardness' names no unit: .* hardness_HV"),
        ("alloy,temperature_C,log_time_s,fraction_transformed", "'log_time_s' holds logarithms"),
        ("alloy,temperature_C,log10(time/s),fraction_transformed", "holds logarithms by its name"),
        ("alloy,temperature_C,ln t (s),fraction_transformed", "'ln t .s.' holds logarithms"),
        ("alloy,1000/T (1/K),time_s,fraction_transformed", "'1000/T .1/K.' holds reciprocals"),
        ("alloy,temperature_C,time_s,time_min,fraction_transformed", "both time_s and time_min"),
        ("alloy,temperature_C,time (h),time_min,fraction_transformed", "both time .h. and time_m"),
    ],
)
def test_a_column_without_a_known_unit_is_named_with_the_remedy(tmp_path, header, message):
    with pytest.raises(MatmlError, match=rf"data\.csv: .*{message}"):
        read(tmp_path, header + "\n" + "A,600,10,0.3,1"[: 2 * header.count(",") + 7] + "\n")


def test_other_columns_that_begin_like_a_quantity_stay_what_they_are(tmp_path):
    text = "alloy,temperature_C,time_s,fraction_transformed,time_index,grain_size_ASTM\n"
    text += "A,600,9,0.3,7,8"
    points = read(tmp_path, text).points
    assert points[["time_s", "time_index", "grain_size_ASTM"]].to_numpy().tolist() == [[9, 7, 8]]


def test_noise_around_the_ends_of_a_fraction_is_kept_and_percent_is_not_guessed(tmp_path):
    rows = "A,600,10.5,-0.004\nA,600,60,0.35\nA,600,3000,1.003\n"
    found = read(tmp_path, "alloy,temperature_C,time_s,fraction_transformed\n" + rows)
    assert found.points["fraction_transformed"].tolist() == [-0.004, 0.35, 1.003]
    assert found.quarantine.empty


def test_an_alloy_in_percent_is_set_aside_whole_and_the_others_stay(tmp_path):
    """Its 0.5 % would else be read as one half."""
    rows = "".join(f"P,600,{t},{f}\n" for t, f in ((1, 0), (5, 0.5), (20, 20), (60, 60), (200, 97)))
    rows += "A,600,60,0.35\nA,600,90,0.5\n"
    found = read(tmp_path, "alloy,temperature_C,time_s,fraction_transformed\n" + rows)
    assert found.names == ["A"]
    assert found.quarantine["value"].tolist() == ["0", "0.5", "20", "60", "97"]
    assert found.quarantine["remedy"].str.contains("fraction_transformed_pct").all()
    assert any("'P' has no usable row left" in warning for warning in found.warnings)


@pytest.mark.parametrize("time", ["1e308", "1e-308", "nan", "inf", "-inf", "1_50", "0x10", "1e13"])
def test_absurd_times_are_refused_row_by_row(tmp_path, time):
    text = "alloy,temperature_C,time_s,fraction_transformed\nA,600,60,0.3\n"
    found = read(tmp_path, f"{text}A,600,{time},0.5\n")
    assert len(found.points) == 1
    (entry,) = found.quarantine.to_dict("records")
    assert (entry["line"], entry["field"], entry["value"]) == (3, "time_s", time)
    assert entry["reason"]
    assert entry["remedy"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("sigma", "1e308"), ("sigma", "nan"), ("sigma", "3"), ("humidity", "1e99")],
)
def test_absurd_values_of_other_columns_are_refused_row_by_row(tmp_path, column, value):
    text = f"alloy,temperature_C,time_s,fraction_transformed,{column}\nA,600,60,0.3,0.1\n"
    found = read(tmp_path, f"{text}A,600,90,0.5,{value}\n")
    assert len(found.points) == 1
    assert found.quarantine[["field", "value"]].to_numpy().tolist() == [[column, value]]


def test_refractory_metals_are_real(tmp_path):
    text = "alloy,temperature_C,time_s,fraction_transformed\nW1,1800,60,0.6\nW1,2300,3,0.6\n"
    found = read(tmp_path, text)
    assert len(found.points) == 2
    assert found.quarantine.empty
    assert found.warnings == []


def test_an_initial_grain_of_zero_is_unknown(tmp_path):
    header = "alloy,temperature_C,time_s,{},initial_grain_size_um\n"
    found = read(tmp_path, header.format("grain_size_um") + "A,900,60,12,0\n")
    assert found.points["initial_grain_size_um"].tolist() == [0.01]
    assert any("not measured" in note for note in found.notes)
    with pytest.raises(MatmlError, match="initial_grain_size_um = '0'"):
        read(tmp_path, header.format("fraction_transformed") + "A,900,60,0.4,0\n")


def test_alloys_and_histories_have_the_same_reader(tmp_path):
    path = tmp_path / "alloys.csv"
    text = "alloy;C_wt_pct;reference_temperature_C;steel\nWälz;0,4;600;\n001;0,9;610;4340\n"
    path.write_bytes(text.encode("cp1252"))
    table, warnings = read_alloys(path, ["001", "Wälz"])
    assert warnings == []
    assert table["C_wt_pct"].tolist() == [0.9, 0.4]
    assert table["reference_temperature_K"].tolist() == [883.15, 873.15]
    assert table["steel"][0] == "4340"
    path.write_text("alloy,C_wt_pct\nA,140\n")
    with pytest.raises(MatmlError, match="C_wt_pct = '140': give a number from 0 to 100"):
        read_alloys(path, ["A"])
    history = tmp_path / "path.csv"
    history.write_text("Time (min);Temperature (°C)\n0;20\n1,5;900,5\n", encoding="utf-16")
    assert read_history(history).time_s.tolist() == [0, 90]
    assert read_history(history).temperature_K.tolist() == [293.15, 1173.65]


def test_latin_names_are_read(tmp_path):
    text = "alloy,temperature_C,time_s,fraction_transformed\nWälzlagerstahl,600,10.5,0.05\n"
    assert read(tmp_path, text, encoding="latin-1").names == ["Wälzlagerstahl"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "alloy,C_wt_pct,Mn_wt_pct\nA,60,70\n",
            "of alloy 'A' adds up to 130 % in the columns C_wt",
        ),
        (
            "alloy,Fe_wt_pct,C_wt_pct\nA,0.996,0.004\nB,0.99,0.01\n",
            "all 2 alloys add up to 1 % in the columns Fe_wt_pct, C_wt_pct: fractions?",
        ),
        ("alloy,Xx_wt_pct\nA,1\n", "column 'Xx_wt_pct' names no chemical element"),
    ],
)
def test_compositions_that_cannot_be_are_refused(tmp_path, text, told):
    path = tmp_path / "alloys.csv"
    path.write_text(text)
    with pytest.raises(MatmlError, match=told):
        read_alloys(path, ["A"])


def test_a_composition_of_one_percent_is_one(tmp_path):
    path = tmp_path / "alloys.csv"
    path.write_text("alloy,C_wt_pct,Mn_wt_pct\nA,0.4,0.6\n")
    assert read_alloys(path, ["A"])[1] == []
    path.write_text("alloy,C_wt_pct,Mn_wt_pct\nA,0.4,0.6\nB,0.4,0.7\n")
    assert read_alloys(path, ["A"])[1] == []


def test_what_is_not_read_of_a_composition_is_said(tmp_path):
    path = tmp_path / "alloys.csv"
    path.write_text("alloy,C,Mn_wt_pct\nA,0.4,1\nB,0.5\n")
    short, plain = read_alloys(path, ["A", "B"])[1]
    assert "row 3 has 2 fields where the header has 3" in short
    assert "column 'C' is not read: for a composition call it C_wt_pct or C_at_pct" in plain


def test_a_row_of_units_that_contradicts_the_header_is_refused(tmp_path):
    text = "alloy,temperature_C,time_s,fraction_transformed\n-,K,s,-\nA,900,60,0.5\n"
    with pytest.raises(
        MatmlError, match="'temperature_C' is in C by its name, but in K by its fir"
    ):
        read(tmp_path, text)
    assert len(read(tmp_path, text.replace("-,K", "-,°C")).points) == 1


def test_a_start_in_celsius_under_a_name_of_kelvin_is_refused(tmp_path):
    text = "alloy,temperature_C,time_s,fraction_transformed,start_temperature_{}\n"
    with pytest.raises(MatmlError, match="name the column start_temperature_C"):
        read(tmp_path, text.format("K") + "A,700,60,0.4,20\n")
    found = read(tmp_path, text.format("C") + "A,700,60,0.4,-80\n")
    assert found.points["start_temperature_K"].tolist() == pytest.approx([193.15])


MARTENSITE = "alloy,temperature_{},martensite_fraction\nA,{},0.3\nA,{},0.7\nA,{},0.97\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            MARTENSITE.format("C", 573, 423, 293),
            "its lowest number, 293 C, is room temperature in K",
        ),
        (MARTENSITE.format("C", 300, 150, 20), ""),
        (MARTENSITE.format("K", 573, 423, 293), ""),
        (
            MARTENSITE.format("C", 573.15, 423.15, 323.15),
            "multiples of 50 C written in K (323.15 K are 50 C)",
        ),
        (MARTENSITE.format("C", 299.85, 149.85, 19.85), ""),
        (MARTENSITE.format("K", 573.15, 423.15, 323.15), ""),
        (
            MARTENSITE.format("K", 299.85, 149.85, 19.85),
            "multiples of 1 K written in C (19.85 C are 293 K)",
        ),
        (MARTENSITE.format("F", 572, 302, 68), ""),
        (MARTENSITE.format("F", 300, 150, 20), "its lowest number, 20 F, is room temperature in C"),
    ],
)
def test_numbers_that_give_another_unit_away_are_named(tmp_path, text, told):
    found = read(tmp_path, text).warnings
    assert told in " ".join(found)
    assert len(found) == bool(told)


def test_starts_and_histories_at_room_temperature_in_kelvin_are_named(tmp_path):
    header = "alloy,temperature_C,time_s,fraction_transformed,start_temperature_C\n"
    text = header + "A,1000,60,0.3,{0}\nA,1050,62,0.6,{0}\n"
    assert "lowest number, 293 C, is room" in read(tmp_path, text.format(293)).warnings[0]
    assert read(tmp_path, text.format(20)).warnings == []
    (tmp_path / "p.csv").write_text("time_s,temperature_C\n0,1173\n60,700\n900,294.5\n")
    text = "alloy,path,time_s,fraction_transformed\nA,p.csv,50,0.3\nA,p.csv,60,0.6\n"
    [warning] = read(tmp_path, text).warnings
    assert "p.csv: ends at its coldest, 294.5 C: room temperature in K?" in warning
    (tmp_path / "p.csv").write_text("time_s,temperature_C\n0,900\n60,427\n900,25\n")
    assert read(tmp_path, text).warnings == []


@pytest.mark.parametrize(
    ("rows", "reason", "remedy"),
    [
        ("A,10,600,0.05\nA,60,600,0.35\nA,5000,650,0.9\nA,9000,650,0.95\n", "no alloy", "temper"),
        ("A,600,0.05,10\nA,600,0.35,60\nA,650,0.9,3000\n", "lie above 1", "time_s and fraction"),
    ],
)
def test_exchanged_columns_are_named(tmp_path, rows, reason, remedy):
    header = "alloy,temperature_C,time_s,fraction_transformed\nB,600,9,0.4\n"
    found = read(tmp_path, header + rows)
    assert found.names == ["B"]
    assert found.quarantine["reason"].str.contains(reason).all()
    assert found.quarantine["remedy"].str.contains(f"{remedy}.*exchanged").all()


def test_an_alloy_mostly_on_another_scale_is_set_aside_whole(tmp_path):
    """A soft one in Vickers would else be a hard one in Rockwell C."""
    header = "alloy,temperature_C,time_s,hardness_HRC\n"
    rows = "".join(f"A,{500 + n},3600,{h}\n" for n, h in enumerate((420, 310, 75)))
    found = read(tmp_path, header + rows + "B,500,3600,42\nB,600,3600,420\nB,620,3600,30\n")
    assert found.quarantine[["alloy", "value"]].to_numpy().tolist() == [
        *(["A", text] for text in ("420", "310", "75")),
        ["B", "420"],
    ]
    assert found.quarantine["remedy"].str.contains("hardness_HV").all()


def test_kelvin_and_celsius_in_one_column_are_named(tmp_path):
    header = "alloy,temperature_C,time_s,fraction_transformed\n"
    rows = [f"A,{t},{n + 9},0.4\n" for n, t in enumerate((700, 973, 750, 1023))]
    assert (
        "700 and 973 of one alloy, and 1 more" in read(tmp_path, header + "".join(rows)).warnings[0]
    )
    assert read(tmp_path, header + "".join(rows).replace("1023", "1020")).warnings == []


def test_a_negative_rate_is_not_told_to_be_named_as_it_is(tmp_path):
    text = "alloy,heating_rate_K_per_min,peak_temperature_C\nA,-10,544\n"
    with pytest.raises(MatmlError, match=r"heating_rate_K_per_min = '-10': .*; check it$"):
        read(tmp_path, text)


def test_a_rate_that_the_rows_contradict_is_refused_with_the_unit_that_fits(tmp_path):
    header = "alloy,start_temperature_C,temperature_C,time_s,heating_rate_K_per_{},"
    header += "fraction_transformed\n"
    row = "A,20,620,{},10,0.4\n"
    found = read(tmp_path, header.format("s") + row.format(3600) + row.format(60))
    [entry] = found.quarantine.to_dict("records")
    assert (entry["line"], entry["field"], entry["value"]) == (2, "heating_rate_K_per_s", "10")
    assert "10 K/s, but 0.1667 K/s by start_temperature_C, temperature_C" in entry["reason"]
    assert entry["remedy"] == "name the column heating_rate_K_per_min?"
    assert read(tmp_path, header.format("min") + row.format(3600)).quarantine.empty
    header, row = "alloy,run,heating_rate_K_per_s,peak_temperature_C\n", "A,{},10,{}\n"
    found = read(tmp_path, header + row.format("10 K/min", 540) + row.format("DSC 10 K/s", 590))
    assert found.quarantine["line"].tolist() == [2]
    assert "K_per_min" in found.quarantine["remedy"][0]


ROUND_C, ROUND_F = [600, 650, 700, 800], [900, 1000, 1100, 1200]


@pytest.mark.parametrize(
    ("unit", "numbers", "told"),
    [
        ("C", [873, 923, 973, 1073], "multiples of 50 C written in K (873 K are 600 C)"),
        ("C", [1112, 1202, 1292, 1472], "multiples of 50 C written in F (1112 F are 600 C)"),
        ("F", [482, 538, 593, 649], "multiples of 100 F written in C (482 C are 900 F)"),
        ("K", [482, 538, 593, 649], "multiples of 100 F written in C"),
        # right ones, or such as tell nothing
        ("C", ROUND_C, ""),
        ("F", ROUND_F, ""),
        ("F", ROUND_C, ""),
        ("K", ROUND_C, ""),
        ("K", [873, 923, 973, 1073], ""),
        ("C", [482, 538, 593, 649], ""),
        ("F", [1112, 1202, 1292, 1472], ""),
        ("C", [627, 677, 727, 777], ""),
        ("C", [873, 923], ""),
        ("C", [873, 923, 973, 1071], ""),
    ],
)
def test_round_temperatures_of_one_unit_give_away_the_other(tmp_path, unit, numbers, told):
    header = f"alloy,temperature_{unit},time_s,fraction_transformed\n"
    rows = "".join(f"A,{t},{n + 9},0.4\n" for n, t in enumerate(numbers))
    found = read(tmp_path, header + rows).warnings
    assert told in " ".join(found)
    assert len(found) == bool(told)


@pytest.mark.parametrize(
    ("header", "rows", "lines", "told"),
    [
        # times in minutes, temperatures in kelvin by the names of the specimens
        ("run", ["650C 30min,650,30", "650C_60min,650,60"], [2, 3], "time_s,time_min"),
        ("run", ["S1-923K,923,600", "S1-973 K,973,900"], [2, 3], "temperature_C,temperature_K"),
        ("alloy", ["X 2 h,650,2", "X 4 h,650,4"], [2, 3], "time_s,time_h"),
        # right; one number; a record of several times; a rate; another treatment
        ("run", ["30 min,650,1800", "60 min,650,3600"], [], ""),
        ("run", ["30 s,650,30", "60 min,650,60"], [], ""),
        ("run", ["30 min,650,30", "hold,650,70"], [], ""),
        ("run", ["90 min,650,10", "90 min,650,90", "80 min,650,80"], [], ""),
        ("run", ["5 K/min,650,5", "10 K/min,650,10"], [], ""),
        ("run", ["austenitised 900C 60min,650,30", "austenitised 950C 60min,650,40"], [], ""),
    ],
)
def test_a_run_s_name_tells_the_unit_of_its_row(tmp_path, header, rows, lines, told):
    columns = "run,temperature_C,time_s" + ",alloy" * (header == "run")
    columns = columns.replace("run", header) + ",fraction_transformed\n"
    texts = [f"{row}{',A' * (header == 'run')},0.{n + 2}\n" for n, row in enumerate(rows)]
    good = "B,500,9" + ",A" * (header == "run") + ",0.5\n"
    found = read(tmp_path, columns + "".join(texts) + good).quarantine
    assert found["line"].tolist() == lines
    if told:
        field, remedy = told.split(",")
        assert (found["field"] == field).all()
        assert (found["remedy"] == f"name the column {remedy}?").all()
        assert found["reason"].str.contains("the same number is .* in the name").all()


FRACTION = "alloy,temperature_C,time_s,fraction_transformed\n"
GRAIN = "alloy,temperature_C,time_s,grain_size_um,initial_grain_size_um\n"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (FRACTION + "A,600,60,0.9\nA,600,300,0.5\nA,650,30,0.8\nA,650,90,0.4\n", "that is left"),
        (GRAIN + "A,1000,60,9,10\nA,1000,600,7,10\nA,1000,6000,5,10\n", "ASTM numbers"),
        (MARTENSITE.format("C", 300, 150, 20).replace("0.97", "1.0"), ""),
        (MARTENSITE.format("C", 20, 150, 300), "austenite that is left"),
        # noise, one alloy's own fall at one of two temperatures, a history
        (FRACTION + "A,600,60,0.92\nA,600,300,0.91\nA,600,900,0.9\n", ""),
        (FRACTION + "A,600,60,0.9\nA,600,300,0.5\nA,650,30,0.2\nA,650,90,0.4\n", ""),
        (FRACTION + "A,600,60,0.9\nA,600,300,0.5\n", ""),
    ],
)
def test_a_value_that_changes_the_wrong_way_alone_is_another_quantity(tmp_path, text, meant):
    good = text.splitlines()[1].replace("A,", "B,")
    found = read(tmp_path, f"{text}{good}\n")
    assert found.names == (["B"] if meant else ["A", "B"])
    if meant:
        assert found.quarantine["remedy"].str.contains(meant).all()
        assert found.quarantine["reason"].str.contains("wherever this alloy was measured").all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FRACTION + "α-Ti,600,60,0.3\nα\u2011Ti,600,90,0.5\n", "'α-Ti' and 'α\u2011Ti' differ in"),
        (FRACTION + "A 1,600,60,0.3\na1,600,90,0.5\n", "alloys 'A 1' and 'a1' differ in case"),
        (FRACTION + "A1,600,60,0.3\nA11,600,90,0.5\n", ""),
        (
            FRACTION.replace("alloy,", "alloy,C_wt_pct,") + "A,0.4,600,60,0.3\n",
            "C_wt_pct: compositions are not read from the observations; give them in a table",
        ),
        (GRAIN + "A,1000,60,20,50\nA,1000,90,30,50\n", "2 grain sizes .* 20 after 50 um"),
        (GRAIN + "A,1000,60,45,50\n", ""),
    ],
)
def test_alloys_are_doubted_by_their_own_rows(tmp_path, text, told):
    found = " ".join(read(tmp_path, text).warnings)
    assert bool(found) == bool(told)
    assert re.search(told, found)


MINUTES = [3, 6, 10, 20, 30, 60, 120]


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (np.log10(MINUTES).round(3), "0.477 is log10 of 3)"),
        (np.log10(MINUTES).round(2), "0.48 is log10 of 3.02)"),
        (np.log(MINUTES).round(2), "1.1 is ln of 3)"),
        (np.log10(np.multiply(MINUTES, 60)).round(3), "2.255 is log10 of 180)"),
        # times as they stand, and digitised ones
        ([1, 1.5, 2, 2.5, 3, 4, 5], ""),
        ([0.25, 0.5, 0.75, 1.25, 1.5, 2.25, 3.75], ""),
        ([1.13, 1.42, 1.77, 2.05, 2.31, 2.66, 3.02], ""),
    ],
)
def test_logarithms_of_round_times_are_named(tmp_path, numbers, told):
    rows = [f"A,600,{time},{0.1 * k + 0.1:.1f}" for k, time in enumerate(numbers)]
    header = "alloy,temperature_C,time_s,fraction_transformed"
    warnings = " ".join(read(tmp_path, "\n".join([header, *rows])).warnings)
    assert told in warnings
    assert bool(told) == ("of round times" in warnings)


def test_an_alloy_with_logarithms_below_zero_is_set_aside_whole(tmp_path):
    header = "alloy,temperature_C,time_s,fraction_transformed"
    rows = ["A,600,-0.5,.1", "A,600,0.7,.3", "A,600,2.1,.8", "B,600,-5,.1", "B,600,30,.4"]
    found = read(tmp_path, "\n".join([header, *rows]))
    assert found.points["alloy"].tolist() == ["B"]
    first, *_, last = found.quarantine.to_dict("records")
    assert first["reason"] == "this alloy's times go from -0.5 to 2.1"
    assert first["remedy"].startswith("are they logarithms")
    assert last["reason"] == "time must be positive"


@pytest.mark.parametrize(
    ("units", "kelvin", "second"),
    [(",F,min,", 873.15, 600), ("-,(°F),[h],-", 873.15, 36_000), (",K,s,%", 1112, 10)],
)
def test_a_row_of_units_is_read(tmp_path, units, kelvin, second):
    found = read(
        tmp_path,
        f"alloy,temperature,time,fraction_transformed\n{units}\nA,1112,10,.5\nA,1112,20,.9\n",
    )
    assert found.points["temperature_K"][0] == pytest.approx(kelvin)
    assert found.points["time_s"][0] == second
    assert found.points["fraction_transformed"][0] == (0.005 if "%" in units else 0.5)
    assert found.points["line"].tolist() == [3, 4]
    assert "units read from row 2" in found.notes[0]


@pytest.mark.parametrize("columns", ["1%,50%", "t_1_s,t_50_s", "start_s,finish_s"])
def test_a_column_for_each_curve_is_told_what_to_make_of_it(tmp_path, columns):
    with pytest.raises(MatmlError, match=r"of a column for each curve .* make one row for each"):
        read(tmp_path, f"alloy,temperature_C,{columns}\nA,600,10,100\n")
