"""Files of instruments read as they come: layouts, clocks, runs, segments; simulated records."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.instruments.export import over_midnight, read_export, spread
from matml.kinetics.instruments.records import read_records
from matml.kinetics.instruments.segments import segments_of

TIME = 600 + 0.5 * np.arange(40)
CELSIUS = 1000 - 0.5 * np.arange(40)
SIGNAL = 1.0747 - 1e-3 * np.arange(40)


def run(*arguments):
    return CliRunner().invoke(cli, ["kinetics", *map(str, arguments)], catch_exceptions=False)


def rows(form, comma=False):
    """Return the record in lines of a form of number, time, temperature and signal."""
    text = "".join(
        form.format(*row) + "\n" for row in zip(range(7, 47), TIME, CELSIUS, SIGNAL, strict=True)
    )
    return text.replace(".", ",") if comma else text


LAYOUTS = {
    "baehr": (
        "latin-1",
        " C:\\Data\\017.PAR\n"
        "     Time - Temperature  /  rel. Change in Length  /  dif. Change in Length \n"
        "         s               °C                 %\n",
        rows("  {0}  {1:.8f}  {2:.8f}  {3:.8f}  0.01000000", comma=True),
        ("length", "rel. Change in Length", "%", "spaces"),
    ),
    "netzsch": (
        "latin-1",
        "#EXPORTTYPE:DATA ALL\n#DECIMAL:COMMA\n#SEPARATOR:SEMICOLON\n#SAMPLE:Probe für Versuch\n"
        "#RANGE:1000°C/60,0(K/min)/100°C\n\n##Temp./°C;Time/s;dL/Lo\n",
        rows("{2:.5f};{1:.6f};{3:.6E}", comma=True),
        ("length", "dL/Lo", "", "semicolons"),
    ),
    "setaram": (
        "utf-16",
        "Sample B-17 10 mm\r\nUser : operator\r\n\r\n"
        "Index Time (s)    Furnace Temperature (°C)  Sample Temperature (°C)   Length (mm)\r\n",
        rows("{0}   {1:g}   1500.0   {2:.6f}    {3:.6f}   \r"),
        ("length", "Length", "mm", "spaces"),
    ),
    "ta": (
        "utf-8",
        "Version\t1.0\nNsig\t3\nSig1\tTime (s)\nSig2\tTemperature (°C)\nSig3\tHeat Flow (mW)\n"
        "StartOfData\n-1\t0\t0\n",
        rows("{1:.3f}\t{2:.3f}\t{3:.5f}"),
        ("heat_flow", "Heat Flow", "mW", "tabulators"),
    ),
    "mettler": (
        "latin-1",
        "Curve Name:\n  [4] B-17\nCurve Values:\n"
        "  Index        t       Ts       Tr     Value\n"
        "             [s]     [°C]     [°C]      [mW]\n",
        rows("  {0}  {1:g}  {2:.3f}  1500.0  {3:.6f}"),
        ("heat_flow", "Value", "mW", "spaces"),
    ),
    "linseis": (
        "utf-8-sig",
        "Linseis data export\nSample;B-17\n\n"
        "Time [sec];Temp. Sample [°C];Temp. Program [°C];Delta L [µm]\n",
        rows("{1:.2f};{2:.2f};1500.00;{3:.6f}"),
        ("length", "Delta L", "µm", "semicolons"),
    ),
    "columns told by their units": (
        "utf-8",
        "t;T1;L\ns;°C;µm\n",
        rows("{1:.2f};{2:.2f};{3:.6f}"),
        ("length", "L", "µm", "semicolons"),
    ),
    "units behind commas": (
        "utf-8",
        "Time, s\tTemperature, °C\tHeat flow, mW\n",
        rows("{1:.2f}\t{2:.2f}\t{3:.6f}"),
        ("heat_flow", "Heat flow", "mW", "tabulators"),
    ),
    "spreadsheet": (
        "utf-8",
        "Zeit (s),Probentemp. (°C),Länge (mm)\n",
        "".join(
            ",".join(f'"{value:.5f}"'.replace(".", ",") for value in row) + "\n"
            for row in zip(TIME, CELSIUS, SIGNAL, strict=True)
        ),
        ("length", "Länge", "mm", "commas"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_without_options(tmp_path, layout):
    encoding, header, body, (role, name, unit, separator) = LAYOUTS[layout]
    path = tmp_path / "record.txt"
    path.write_bytes((header + body).encode(encoding))
    export = read_export(path)
    assert export.separator == separator
    [record] = read_records(path, role)
    assert (record.columns[2].name, record.columns[2].unit) == (name, unit)
    np.testing.assert_allclose(record.time_s, TIME, atol=1e-5)
    np.testing.assert_allclose(record.temperature_K, CELSIUS + 273.15, atol=1e-5)
    np.testing.assert_allclose(record.signal, SIGNAL, atol=1e-5)
    shown = run("inspect", path).output
    assert f"columns separated by {separator}" in shown
    assert "1 cooling 1000 C to 980.5 C at -1 K/s" in shown


def plain(path, time, celsius=CELSIUS, header="time,temperature,length", signal=SIGNAL):
    lines = [f"{t},{c},{x}" for t, c, x in zip(time, celsius, signal, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_clocks_are_seconds_also_over_midnight(tmp_path):
    clock = [f"2025-03-01 23:59:{50 + k}.5" for k in range(10)]
    clock += [f"2025-03-02 00:00:{k:02d}.5" for k in range(30)]
    path = plain(tmp_path / "clock.csv", clock)
    [record] = read_records(path, "length", temperature_unit="C")
    np.testing.assert_allclose(np.diff(record.time_s), 1.0)
    for before, after in (("11:59:{} AM", "12:00:{} PM"), ("11:59:{} PM", "12:00:{} am")):
        halves = [before.format(s) for s in range(40, 60)] + [f"{s:02d}" for s in range(20)]
        halves[20:] = map(after.format, halves[20:])
        path = plain(tmp_path / "halves.csv", halves, header="Time,T (°C),dL")
        [record] = read_records(path, "length")
        np.testing.assert_allclose(np.diff(record.time_s), 1.0)
    np.testing.assert_array_equal(
        over_midnight(np.array([3.0, 86_399, 0, 5])), [3, 86_399, 86_400, 86_405]
    )


@pytest.mark.parametrize(
    ("header", "seconds", "given", "factor"),
    [
        ("t [min:s]", "", None, 1),
        ("t (hh:mm)", "", None, 60),
        ("Zeitstempel", ".5", None, 1),
        ("Time", "", "s", 1),
        ("Time (min)", "", "min", 60),
    ],
)
def test_a_clock_of_two_parts_is_told_by_its_header_or_asked_for(
    tmp_path, header, seconds, given, factor
):
    clock = [f"{k // 60:02d}:{k % 60:02d}{seconds}" for k in range(40, 80)]
    path = plain(tmp_path / "clock.csv", clock, header=f"{header},T (°C),Dimension Change (µm)")
    if given:
        with pytest.raises(MatmlError, match="--time-unit s where its cells are minutes:seconds"):
            read_records(path, "length")
    [record] = read_records(path, "length", time_unit=given)
    np.testing.assert_allclose(np.diff(record.time_s), factor)
    assert record.columns[2].unit == "µm"


def test_thousands_are_read_in_both_ways_of_writing(tmp_path):
    path = tmp_path / "r.csv"
    body = "".join(f"{n},5;{900 - n},0;1.010.{n:03d},25\n" for n in range(40))
    for text in (body, body.translate(str.maketrans(",.", ".,"))):
        path.write_text("t (s);T (°C);dL (nm)\n" + text)
        [record] = read_records(path, "length")
        np.testing.assert_array_equal(record.signal, 1_010_000.25 + np.arange(40))


@pytest.mark.parametrize(
    ("time", "kelvin", "signal", "decimal", "told"),
    [
        (
            "{:,}",
            "{:,}",
            "{:,}",
            None,
            "',' is read as parting thousands, as in '1,000' of line 12",
        ),
        ("{:,}", "{:,}", "{}.5", None, "',' is read as parting thousands"),
        ("{:,}", "{}", "{},5", None, "line 12, column 't': '1,000': thousands or decimals?"),
        ("1,{:03}", "{}", "{}.5", None, "line 2, column 't': '1,900': thousands or decimals?"),
        ("1,{:03}", "{}", "{}", ".", "',' is read as parting thousands"),
        ("{}", "{}.125", "{}.250", None, ""),
        ("{}", "{},125", "{},250", None, ""),
        ("{},000", "{}", "{},250", None, ""),
    ],
)
def test_a_sign_before_three_digits_is_what_the_file_shows_or_asked_for(
    tmp_path, time, kelvin, signal, decimal, told
):
    path = tmp_path / "r.csv"
    times = range(900, 1_300, 10) if not time.startswith("1") else range(900, 940)
    rows = [f"{time};{kelvin};{signal}".format(t, 980 + t % 50, t) for t in times]
    path.write_text("\n".join(["t (s);T (K);dL (nm)", *rows]))
    if "?" in told:
        with pytest.raises(MatmlError, match=re.escape(told)):
            read_records(path, "length")
        return
    [record] = read_records(path, "length", decimal=decimal)
    assert told in " ".join(record.notes)
    assert bool(told) == bool(record.notes)
    np.testing.assert_array_equal(np.diff(record.time_s), np.diff(times))
    np.testing.assert_array_equal(record.temperature_K // 1, [980 + t % 50 for t in times])
    np.testing.assert_array_equal(record.signal // 1, times)


def test_repeated_time_stamps_are_spread(tmp_path):
    path = plain(tmp_path / "coarse.csv", np.floor(TIME).astype(int), header="time_s,T (°C),dL")
    [record] = read_records(path, "length")
    np.testing.assert_allclose(record.time_s, TIME)
    assert record.notes == ["20 time stamp(s) repeat: their rows are spread evenly over them"]
    np.testing.assert_allclose(spread(np.array([0.0, 3.0, 3.0, 3.0])), [0, 3, 4, 5])


def test_units_are_taken_from_the_file_or_asked_for(tmp_path):
    path = plain(tmp_path / "bare.csv", TIME)
    with pytest.raises(MatmlError, match="'temperature' does not say its unit: give --temperature"):
        read_records(path, "length")
    assert "not yet a record: column 'temperature'" in run("inspect", path).output
    named = plain(tmp_path / "named.csv", TIME / 60, header="t (min),T (K),dL")
    [record] = read_records(named, "length")
    np.testing.assert_allclose(record.time_s, TIME)
    np.testing.assert_allclose(record.temperature_K, CELSIUS)
    with pytest.raises(MatmlError, match="is in K by its header, not in C"):
        read_records(named, "length", temperature_unit="C")
    with pytest.raises(MatmlError, match="no column is a heat flow by its name"):
        read_records(named, "heat_flow")


def test_several_runs_in_one_file_are_told_apart(tmp_path):
    path = plain(
        tmp_path / "two.csv",
        [*TIME, *TIME],
        [*CELSIUS, *CELSIUS],
        "time_s,temperature_C,length",
        [*SIGNAL, *SIGNAL],
    )
    first, second = read_records(path, "length")
    assert (first.name, second.name) == ("two-1", "two-2")
    np.testing.assert_array_equal(first.time_s, second.time_s)
    path.write_text(path.read_text() + "length,time_s,other\n1,2,3\n")
    with pytest.raises(MatmlError, match="line 82: another table begins"):
        read_export(path)


def test_what_is_no_record_is_refused(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("nothing but words\nand more of them\n")
    with pytest.raises(MatmlError, match=r"holds no rows of numbers \(it begins with 'nothing but"):
        read_export(path)
    # pytest makes warnings errors: an empty mean warned here
    path.write_text("when,T (°C),dL\n" + "".join(f"x,{n},{n}\n" for n in range(20)))
    with pytest.raises(MatmlError, match="no column is a time by its name"):
        read_records(path, "length")
    path.write_bytes(b"\x00\x01\x02\x03\xff" * 100)
    with pytest.raises(MatmlError, match="cannot be read as text"):
        read_export(path)


def full_cycle():
    """Return time, celsius, length and fraction of ferrite: heating, holding, cooling."""
    time = np.arange(0, 2000, 1.0)
    celsius = np.interp(time, [0, 487.5, 687.5, 1662.5, 2000], [25, 1000, 1000, 25, 25])
    heating = time < 600
    middle = np.where(heating, 770, 600)
    ferrite = np.where(time < 1700, 1 / (1 + np.exp((celsius - middle) / 12)), 1.0)
    length = ferrite * 14.5e-6 * celsius + (1 - ferrite) * (-0.009 + 20.5e-6 * celsius)
    return time, celsius, length + np.random.default_rng(0).normal(0, 1e-6, len(time)), ferrite


@pytest.mark.parametrize("heating", [True, False])
def test_a_full_cycle_gives_the_fractions_of_the_passage_alone(tmp_path, heating):
    time, celsius, length, ferrite = full_cycle()
    path, out = tmp_path / "cycle.csv", tmp_path / "points.csv"
    pd.DataFrame({"time_s": time, "T_C": celsius, "dL": length}).to_csv(path, index=False)
    ranges = ("--parent", 300, 650, "--product", 880, 990)
    if not heating:
        ranges = ("--parent", 750, 950, "--product", 150, 450)
    run("convert", "dilatometer", path, "--alloy", "A", *ranges, "--out", out)
    points = pd.read_csv(out)
    turn = (time < 487) if heating else (time > 688) & (time < 1662)
    order = np.argsort(celsius[turn])
    truth = np.interp(points["temperature_C"], celsius[turn][order], ferrite[turn][order])
    truth = 1 - truth if heating else truth
    np.testing.assert_allclose(points["fraction_transformed"], truth, atol=0.01)
    stated = json.loads(out.with_suffix(".json").read_text())["runs"][0]
    taken = "1 heating 25 C to 1000 C" if heating else "3 cooling 999.5 C to 25.5 C"
    assert stated["segment"] == taken
    assert stated["notes"] == [f"of 4 segments, {taken} is taken"]


def test_a_segment_is_asked_for_where_several_fit(tmp_path):
    time = np.arange(0, 1200, 1.0)
    kelvin = np.interp(time, [0, 600, 1200], [300, 900, 300])
    heat = 0.02 + np.exp(-(((kelvin - 600) / 20) ** 2)) * np.where(time < 600, 1, -1)
    path, out = tmp_path / "dsc.csv", tmp_path / "points.csv"
    pd.DataFrame({"time_s": time, "T_K": kelvin, "heat flow (mW)": heat}).to_csv(path, index=False)
    arguments = ("convert", "dsc", path, "--alloy", "A", "--peak", 520, 680, "--out", out)
    with pytest.raises(MatmlError, match=r"2 times \(1 heating 300 K to 900 K; 2 cooling"):
        run(*arguments)
    run(*arguments, "--segment", "cooling")
    points = pd.read_csv(out)
    assert points["start_temperature_C"].sub(680 - 273.15).abs().max() < 1e-6
    middle = np.interp(0.5, points["fraction_transformed"], points["temperature_C"])
    assert middle == pytest.approx(600 - 273.15, abs=0.5)
    with pytest.raises(MatmlError, match="--segment 5 is none of its segments"):
        run(*arguments, "--segment", 5)
    shown = run("inspect", path, "--figure", tmp_path / "record.png").output
    assert "--peak LOW HIGH --segment NUMBER --out" in shown
    assert (tmp_path / "record.png").stat().st_size > 10_000


def test_segments_of_a_kind_are_listed_alone_and_a_hold_is_proposed(tmp_path):
    time = np.arange(0, 600, 1.0)
    kelvin = np.interp(time, [0, 100, 200, 300, 400, 600], [300, 700, 700, 900, 900, 300])
    path = plain(tmp_path / "two.csv", time, kelvin, "time_s,T_K,length", time)
    [record] = read_records(path, "length")
    fits = r"--segment hold fits several of its segments: 2 hold at [^;]*; 4 hold at [^;]*; give"
    with pytest.raises(MatmlError, match=fits):
        record.with_segment("hold")
    path = plain(tmp_path / "held.csv", time, 700 + 0 * time, "time_s,T_K,length", time)
    assert "--alloy NAME --segment hold --out" in run("inspect", path).output


def peak_at_693_K(tmp_path):
    """Return a file in K of a peak at 420 °C with noise and a sloped baseline."""
    time = np.arange(0, 2820, 2.0)
    kelvin = 303 + time / 6
    noise = np.random.default_rng(0).normal(0, 0.002, len(time))
    heat = 0.2 + 1e-4 * kelvin + np.exp(-(((kelvin - 693) / 6) ** 2) / 2) + noise
    path = tmp_path / "dsc.csv"
    pd.DataFrame({"time_s": time, "T_K": kelvin, "heat flow (mW)": heat}).to_csv(path, index=False)
    return path


def test_a_range_without_a_peak_makes_no_reaction(tmp_path):
    path, out = peak_at_693_K(tmp_path), tmp_path / "points.csv"
    assert "ranges of temperature are read in K, of time in s" in run("inspect", path).output
    arguments = ("convert", "dsc", path, "--alloy", "A", "--out", out, "--peak")
    # meant in degrees Celsius
    with pytest.raises(MatmlError, match=r"no peak between 390 K.*--peak is read in K.*from 303 K"):
        run(*arguments, 390, 450)
    assert not out.exists()
    run(*arguments, 663, 723)
    assert pd.read_csv(out)["fraction_transformed"].max() > 0.9


@pytest.mark.parametrize(
    ("feet", "steep"),
    [((663, 723), []), ((668, 688), ["668 K and 688 K"]), ((687, 723), ["687 K"])],
)
def test_a_peak_that_is_cut_is_said(tmp_path, feet, steep):
    path, out = peak_at_693_K(tmp_path), tmp_path / "points.csv"
    run("convert", "dsc", path, "--alloy", "A", "--out", out, "--peak", *feet)
    notes = json.loads(out.with_suffix(".json").read_text())["runs"][0]["notes"]
    assert [note.split(" the ")[0] for note in notes] == [f"a peak is cut: at {x}" for x in steep]


def test_an_unfinished_hold_is_said_and_scaled(tmp_path):
    time = np.arange(0, 700, 1.0)
    kelvin = np.interp(time, [0, 100, 600, 700], [1100, 700, 700, 400])
    age = (time - 100).clip(0, 500) / 400
    fraction = 1 - np.exp(-np.log(2) * age**2)
    path, out = tmp_path / "hold.csv", tmp_path / "points.csv"
    pd.DataFrame({"time_s": time, "T_K": kelvin, "dL": 5e-3 * fraction}).to_csv(path, index=False)
    arguments = ("convert", "dilatometer", path, "--alloy", "A", "--out", out, "--segment", "hold")
    run(*arguments)
    notes = json.loads(out.with_suffix(".json").read_text())["runs"][0]["notes"]
    assert any("unfinished" in note for note in notes)
    run(*arguments, "--final-fraction", fraction[600])
    points = pd.read_csv(out)
    truth = 1 - np.exp(-np.log(2) * (points["time_s"] / 400) ** 2)
    np.testing.assert_allclose(points["fraction_transformed"], truth, atol=0.01)


def test_segments_stand_noise_recalescence_and_quenches():
    time = np.arange(0, 4000, 0.1)
    kelvin = np.interp(
        time,
        [0, 1000, 2000, 2005, 2500, 2520, 2600, 4000],
        [300, 1200, 1200, 800, 600, 640, 500, 500],
    )
    kelvin = kelvin + np.random.default_rng(0).normal(0, 0.3, len(time))
    found = segments_of(time, kelvin)
    assert [segment.kind for segment in found] == ["heating", "hold", "cooling", "hold"]
    np.testing.assert_allclose([time[s.last] for s in found], [1000, 2000, 2600, 4000], atol=12)


def test_a_line_of_units_that_contradicts_the_header_is_refused(tmp_path):
    path, rows = tmp_path / "r.csv", [f"{n},{900 - n},{n},{n}" for n in range(40)]
    path.write_text("\n".join(["time_s,temperature_C,length_um,length_mm", "min,C,um,mm", *rows]))
    with pytest.raises(MatmlError, match=r"r\.csv: column 'time_s' is in s by its name"):
        read_records(path, "length")
    path.write_text(path.read_text().replace("min,", "s,"))
    [record] = read_records(path, "length")
    assert record.notes == [
        "of 2 columns that are a length, length [um] is taken, not length [mm] (column 4)"
    ]


@pytest.mark.parametrize("other", ["Temp (K) [°C]", "Temp [°C] / K"])
def test_a_column_of_two_units_is_refused(tmp_path, other):
    path = plain(tmp_path / "two.csv", TIME, header=f"time_s,{other},dL (µm)")
    with pytest.raises(MatmlError, match=r"by its name, but in [KC] by it, too; correct one"):
        read_records(path, "length")


def test_rows_that_are_left_out_are_said(tmp_path):
    cells = [f"{c}" for c in CELSIUS]
    cells[3], cells[7], cells[8] = "NaN", "---", "OVER"
    path = plain(tmp_path / "gaps.csv", TIME, cells, header="time_s,T (°C),dL (µm)")
    path.write_text(path.read_text() + "# end of file\n")
    [record] = read_records(path, "length")
    assert record.notes == [
        "1 row(s) left out, not 3 cells that are mostly numbers; the first: line 42, "
        "'# end of file'",
        "3 row(s) left out, without a number in 'T'; the first: line 5, '601.5,NaN,1.0717'",
    ]


def test_measured_temperatures_are_taken_before_set_ones_and_others_are_named(tmp_path):
    path = tmp_path / "r.csv"
    rows = [f"{n},{500 - n},{900 - n},{n},{n},{700 - n},0" for n in range(40)]
    header = "t (s),T set (°C),T meas (°C),dL (um),t (s),T2 (°C),dL (um)"
    path.write_text("\n".join([header, *rows]))
    [record] = read_records(path, "length")
    assert record.temperature_K[0] == 900 + 273.15
    assert record.notes == [
        "of 3 columns that are a temperature, T meas [°C] is taken, not T set [°C] (column 2), "
        "T2 [°C] (column 6)",
        "of 2 columns that are a time, t [s] is taken, not t [s] (column 5)",
        "of 2 columns that are a length, dL [um] is taken, not dL [um] (column 7)",
    ]
    [other] = read_records(path, "length", ("column 6", "column 5", "column 7"))
    assert (other.temperature_K[0], other.signal.max(), other.notes) == (700 + 273.15, 0, [])


def test_inspecting_observations_says_what_they_are(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("alloy,temperature_C,time_s,hardness_HV\nA,600,60,400\nA,600,600,350\n")
    shown = run("inspect", path).output
    assert "no record, but observations of hardness_HV: matml kinetics calibrate --data" in shown


@pytest.mark.parametrize("blank", [" ", "'", "\xa0", "\u202f"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_blanks_that_part_thousands_are_no_columns(tmp_path, blank, separator):
    path = tmp_path / "run.txt"
    times = [f"{50 * i:,}".replace(",", blank) for i in range(60)]
    lines = [separator.join((t, str(25 + 10 * i), f"{i}.5")) for i, t in enumerate(times)]
    path.write_text("\n".join([separator.join(("t/s", "T/°C", "dL/µm")), *lines]))
    export = read_export(path)
    assert export.numbers[:, 0].tolist() == list(range(0, 3000, 50))
    assert export.notes == ["thousands are parted in 40 numbers, which were joined"]


def test_observations_in_percent_are_told_where_a_file_is_looked_at(tmp_path):
    path = tmp_path / "ttt.csv"
    path.write_text(
        "alloy,temperature_C,time_s,ttt_fraction\nA,600,10,1\nA,600,100,50\nA,600,900,99\n"
    )
    done = run("inspect", path)
    assert "percent?; name the column ttt_fraction_pct" in done.output
