"""Columns in another unit than they say: what is said of them, and what is not."""

import numpy as np
import pandas as pd
import pytest
import torch

from matml import kinetics
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.calibrate import calibrate, pick_points
from matml.kinetics.inference.diagnostics import range_notes, unit_notes
from matml.kinetics.inference.population import Population, learn_population


@pytest.mark.parametrize(
    ("column", "factor", "offset"), [("temperature_K", 1.0, -273.15), ("time_s", 1 / 3600, 0.0)]
)
def test_what_lies_outside_of_the_population_is_said_first(learned_steels, column, factor, offset):
    observations, population = learned_steels
    name = population.held_out[0]
    low, high = population.data_card[column]
    wrong = pick_points(observations, name, 6, 0)
    wrong.points[column] = wrong.points[column] * factor + offset
    notes = calibrate(population, wrong, name, seed=0).notes
    assert notes[0].startswith("outside of what the population has seen")
    assert f"{low:.4g} to {high:.4g}" in notes[0]
    assert f"as the column '{observations.headers.get(column, column)}' says" in notes[0]
    assert not any("may hold" in note for note in notes)
    right = calibrate(population, pick_points(observations, name, 6, 0), name, seed=0)
    assert not any("outside of what" in note or "may hold" in note for note in right.notes)


def test_another_unit_within_the_population_is_named_by_its_evidence_alone(learned_steels):
    """Kelvin called Celsius is found by how well the curve then fits; right alloys are not accused.

    A column that says C is not taken for one of kelvin, whatever its numbers.
    """
    observations, population = learned_steels
    prior, card = population.prior, population.data_card
    # so that neither reading leaves what the population has seen
    wide = {"temperature_K": [500.0, 1400.0], "time_s": card["time_s"]}
    found = {}
    for name in population.held_out:
        for given, offset, headers in (
            ("right", 0.0, {}),
            ("kelvin called C", 273.15, {"temperature_K": "temperature_C"}),
            ("C called kelvin", -273.15, {}),
            ("C said to be C", -273.15, {"temperature_K": "Temperature (°C)"}),
        ):
            own = pick_points(observations, name, 8, 0)
            own.points["temperature_K"] = own.points["temperature_K"] + offset
            priors = prior.of(own.alloys)
            task = to_tasks(own, population.equation)
            notes = unit_notes(task, priors, "time_s", wide, headers)
            found.setdefault(given, []).append(" ".join(notes))
    assert not any(found["right"])
    assert sum("may hold K, not C" in text for text in found["kelvin called C"]) >= 3
    assert sum("may hold C, not K" in text for text in found["C called kelvin"]) >= 3
    assert not any("may hold C" in text for text in found["C said to be C"])


def test_celsius_in_a_column_of_peaks_in_kelvin_is_not_silent(tmp_path):
    """Fitted as it stands it would give a quarter of the activation energy, and no word of it."""
    rates, rng = np.array([5.0, 10.0, 20.0, 40.0]), np.random.default_rng(3)
    lines = ["alloy,heating_rate_K_per_min,peak_temperature_K"]
    kissinger = equation_named("kissinger")

    def peaks(energy, peak):
        z = kissinger.standardise(
            {"activation_energy_kJ_mol": energy, "peak_at_10_K_per_min_K": peak}
        )
        rate = torch.from_numpy(rates / 60)
        return kissinger.predict("peak_temperature", z, {"heating_rate_K_per_s": rate}).numpy()

    for i in range(8):
        for rate, peak in zip(
            rates, peaks(rng.uniform(130, 260), rng.uniform(500, 700)), strict=True
        ):
            lines.append(f"T{i},{rate:g},{peak + rng.normal(0, 0.5):.2f}")
    train = tmp_path / "train.csv"
    train.write_text("\n".join(lines) + "\n")
    population, _ = learn_population(
        read_observations(train), kissinger, 2.0, 0, held_out=[], origin=train
    )
    mine = tmp_path / "mine.csv"
    rows = [f"N,{r:g},{p - 273.15:.2f}" for r, p in zip(rates, peaks(150, 560), strict=True)]
    mine.write_text("\n".join([lines[0], *rows]) + "\n")
    first = calibrate(population, read_observations(mine), "N", 0).notes[0]
    alone = Population.generic(kissinger, "peak_temperature")
    told = " ".join(calibrate(alone, read_observations(mine), "N", 0).notes)
    assert "activation_energy_kJ_mol = 3" in told
    assert "are the columns heating_rate_K_per_min, peak_temperature_K in the units" in told
    right = tmp_path / "right.csv"
    right.write_text(mine.read_text().replace("temperature_K", "temperature_C"))
    assert "typical range," not in " ".join(
        calibrate(alone, read_observations(right), "N", 0).notes
    )
    assert first.startswith("outside of what the population has seen (peak temperature")
    assert "4 of 4 observations" in first
    assert "read in K as the column 'peak_temperature_K' says" in first


@pytest.mark.parametrize("energy", [150e3, 280e3])
def test_temperatures_and_times_in_each_other_s_column_are_named_without_a_population(energy):
    """All are possible as they stand; a series of one time each is right, and not accused."""
    rng = np.random.default_rng(5)

    def fraction(kelvin, second):
        rate = np.exp(-energy / 8.314 * (1 / kelvin - 1 / 900)) / 300
        return (1 - np.exp(-((rate * second) ** 2)) + rng.normal(0, 0.01, len(kelvin))).clip(0, 1)

    kelvin = np.repeat([873.15, 898.15, 923.15], 6)
    second = np.tile([20.0, 60, 120, 240, 480, 900], 3)
    names = {"temperature_C": kelvin - 273.15, "time_s": second}
    exchanged = dict(zip(names, reversed(names.values()), strict=True))
    annealed = {"temperature_C": np.linspace(50, 1000, 12), "time_s": np.full(12, 900.0)}
    warm = annealed["temperature_C"] + 273.15
    values = fraction(kelvin, second)
    for table, value, told in (
        (exchanged, values, True),
        (names, values, False),
        (annealed, fraction(warm, annealed["time_s"]), False),
    ):
        frame = pd.DataFrame(table | {"fraction_transformed": value})
        notes = kinetics.Population.typical("jmak", "fraction").calibrate(frame).notes
        assert any("'time_s' exchanged?" in note for note in notes) == told


def test_log10_of_times_is_named_by_its_evidence(learned_steels):
    """And where it lies outside of what the population has seen, what it would be is said there."""
    observations, population = learned_steels
    name = population.held_out[0]
    wrong = pick_points(observations, name, 8, 0)
    wrong.points["time_s"] = np.log10(wrong.points["time_s"].clip(lower=1.1))
    high = population.data_card["time_s"][1]
    priors = population.prior.of(wrong.alloys)
    task = to_tasks(wrong, population.equation)
    wide = {**population.data_card, "time_s": [0.01, high]}
    assert "may hold log10 of s, not s" in " ".join(unit_notes(task, priors, "time_s", wide, {}))
    [note] = range_notes(wrong.points, {"time_s": [6, high]}, {})
    assert "as log10 it would lie inside" in note
    right = pick_points(observations, name, 8, 0)
    task = to_tasks(right, population.equation)
    assert not unit_notes(task, priors, "time_s", population.data_card, {})
