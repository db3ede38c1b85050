"""What an instrument's file says beside its numbers, held against the units that were read."""

import numpy as np
import pytest

from matml.core.errors import MatmlError
from matml.kinetics.instruments.declared import declared_in
from matml.kinetics.instruments.records import read_records

SECONDS = np.arange(0, 4200.0, 7)
PROGRAM = np.interp(SECONDS, [0, 3450, 4050, 4200], [25, 600, 600, 500])
"""10 K/min to 600 C, ten minutes there, and 40 K/min down to 500 C."""


def record(path, preamble, header, *columns):
    noise = np.random.default_rng(0).normal(0, 0.1, len(SECONDS))
    cells = [column + noise * (column.max() > 1) * k for k, column in enumerate(columns)]
    rows = [",".join(f"{cell:.3f}" for cell in row) for row in zip(*cells, strict=True)]
    path.write_text("\n".join([*preamble, header, *rows]) + "\n")
    [found] = read_records(path, "length", temperature_unit=None)
    return found


@pytest.mark.parametrize(
    ("line", "kind", "usual"),
    [
        ("#RANGE:1000°C/60,0(K/min)/100°C", ("temperature", "rate"), (1273.15, 1.0)),
        ("OrgMethod 3: Ramp 10.00 °C/min to 600.00 °C", ("temperature", "rate"), (873.15, 1 / 6)),
        ("Heating rate [K/min]: 10", ("rate",), (1 / 6,)),
        ("Heizrate: 10 K/min; Haltezeit 5 min", ("rate", "hold"), (1 / 6, 300.0)),
        ("Isothermal for 30.00 min", ("hold",), (1800.0,)),
        ("Sampling interval (s): 1", ("step",), (1.0,)),
        ("Sampling interval 0.50 sec/pt", ("step",), (0.5,)),
        ("Creation Date : 01/02/2025 06:03:05", (), ()),
        ("Sample B-17 10 mm, 0.2C steel, TIME: 5", (), ()),
        ("017-sample-B-1000C-1Cs.PAR", ("temperature",), (1273.15,)),
    ],
)
def test_programs_are_understood(line, kind, usual):
    found = list(declared_in([line]))
    assert {declared.kind for declared in found} == set(kind)
    assert sorted(declared.usual for declared in found) == pytest.approx(sorted(usual))


WRONG = [
    (
        "time_min,T (°C),dL",
        1.0,
        0.0,
        ["Heating rate (K/min): 10"],
        "'time_min' is read in min",
        "s",
    ),
    (
        "time_s,T (°C),dL",
        1 / 60,
        0.0,
        ["#RANGE:25°C/10,0(K/min)/600°C"],
        "'time_s' is read in s",
        "min",
    ),
    ("time_h,T (°C),dL", 1 / 60, 0.0, ["Isothermal for 10.0 min"], "'time_h' is read in h", "min"),
    ("time_s,T (K),dL", 1.0, 100.0, ["Ramp to 700 °C"], "'T .K.' is read in K", "C"),
    ("time_s,T (°C),dL", 1.0, 273.15, ["Ramp to 600.0 °C"], "'T .*' is read in C", "K"),
    ("time_s,T (F),dL", 1.0, 0.0, ["Heating rate: 10 °C/min"], "'T .*' is read in F", "C"),
]


@pytest.mark.parametrize(("header", "factor", "offset", "preamble", "told", "meant"), WRONG)
def test_a_program_that_holds_in_another_unit_alone_is_refused(
    tmp_path, header, factor, offset, preamble, told, meant
):
    columns = SECONDS * factor, PROGRAM + offset, PROGRAM * 1e-3
    with pytest.raises(MatmlError, match=rf"r\.csv: column {told}.*line \d says .*in {meant}:"):
        record(tmp_path / "r.csv", ["file", *preamble], header, *columns)
    # what no unit explains is the program's own affair
    record(tmp_path / "r.csv", ["Heating rate: 3 K/min", "Ramp to 1450 °C"], header, *columns)


@pytest.mark.parametrize(
    ("beside", "values", "told"),
    [
        ("Rate (K/min)", np.abs(np.gradient(PROGRAM, SECONDS / 60)), "column 'Rate .K/min.' says"),
        ("Time stamp (s)", SECONDS, "column 'Time stamp .s.' says, 4193 s"),
    ],
)
def test_columns_beside_tell_another_unit(tmp_path, beside, values, told):
    path, other = tmp_path / "r.csv", (PROGRAM * 1e-3, values)
    right = record(path, [], f"time_min,T (°C),dL,{beside}", SECONDS / 60, PROGRAM, *other)
    assert not any("is read in" in note for note in right.notes)
    with pytest.raises(MatmlError, match=rf"'time_min' is read in min.*{told}.*is in s:"):
        record(path, [], f"time_min,T (°C),dL,{beside}", SECONDS, PROGRAM, *other)


def test_a_second_thermometer_tells_kelvin(tmp_path):
    header, length = "time_s,T meas (°C),dL,T set (°C)", PROGRAM * 1e-3
    path = tmp_path / "r.csv"
    record(path, [], header, SECONDS, PROGRAM, length, PROGRAM + 20)
    with pytest.raises(MatmlError, match=r"'T meas .°C.' is read in C.*'T set .°C.' says.*in K:"):
        record(path, [], header, SECONDS, PROGRAM + 273.15, length, PROGRAM + 20)


def test_an_interval_of_sampling_is_a_doubt_since_exports_are_thinned(tmp_path):
    columns = SECONDS, PROGRAM, PROGRAM * 1e-3
    found = record(tmp_path / "r.csv", ["Sampling interval: 7 s"], "time_min,T (°C),dL", *columns)
    assert "is read in min, by which the step is 420 s" in found.notes[0]
    right = record(tmp_path / "r.csv", ["Sampling interval: 1 s"], "time_s,T (°C),dL", *columns)
    assert right.notes == []


@pytest.mark.parametrize(
    ("unit", "low", "high", "told"),
    [
        ("°C", 293.2, 1173, "begins at its coldest, 293.2 C: room temperature in K"),
        ("°C", 1173, 294, "ends at its coldest, 294 C: room temperature in K"),
        ("F", 22, 1500, "begins at its coldest, 22 F: room temperature in C"),
        ("K", 100, 900, "begins at 100 K, -173.1 C, and reaches 900 K: is it in C"),
        ("°C", 25, 900, ""),
        ("°C", 300, 900, ""),
        ("°C", 900, 20, ""),
        ("K", 293, 900, ""),
        ("K", 120, 500, ""),
        ("K", 1173, 113, ""),
        ("F", 70, 1500, ""),
    ],
)
def test_ends_at_room_temperature_are_noticed_and_right_ones_are_not(
    tmp_path, unit, low, high, told
):
    path = tmp_path / "r.csv"
    rows = [f"{t},{c:.2f},{c:.2f}" for t, c in enumerate(np.linspace(low, high, 50))]
    path.write_text("\n".join([f"time_s,T ({unit}),dL", *rows]))
    [found] = read_records(path, "length")
    assert told in " ".join(found.notes)
    assert bool(told) == bool(found.notes)


def test_exchanged_columns_are_refused_and_exports_in_even_temperatures_are_not(tmp_path):
    path, rng = tmp_path / "r.csv", np.random.default_rng(0)
    clock = np.arange(0, 300, 0.5)
    warm = 25 + 3 * clock + rng.normal(0, 0.1, len(clock)) + 5 * np.sin(clock / 20)
    rows = [f"{t:.2f},{c:.3f},{c:.3f}" for t, c in zip(clock, np.sort(warm), strict=True)]
    path.write_text("\n".join(["T (°C),t (s),dL", *rows]))
    with pytest.raises(MatmlError, match="are temperature and time exchanged"):
        read_records(path, "length")
    path.write_text("\n".join(["t (s),T (°C),dL", *rows]))
    [right] = read_records(path, "length")
    assert right.notes == []
    rows = [f"{t:.3f},{c},{c}" for t, c in zip(np.sort(warm) - 25, range(25, 625), strict=True)]
    path.write_text("\n".join(["t (s),T (°C),dL", *rows]))
    assert read_records(path, "length")[0].notes == []
