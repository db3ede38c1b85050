"""Evidence for equations, and isoconversional activation energies; simulated of known kinetics."""

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.cli.main import cli
from matml.kinetics.data.additivity import fraction_along
from matml.kinetics.data.observations import observations_of
from matml.kinetics.equations import EQUATIONS
from matml.kinetics.evaluation.which_equation import features
from matml.kinetics.inference.evidence import candidates, held, hold_exponent, plateau_notes, weigh
from matml.kinetics.inference.isoconversional import flatness, isoconversional

GAS = 8.31446261815324e-3


def half_time(kelvin, energy=180.0):
    return np.log(300.0) + energy / GAS * (1 / kelvin - 1 / 1000.0)


def holds(fraction_at, temperatures=(950, 1000, 1050), noise=0.01, **columns):
    """Return observations of holds, of a fraction over ln(t / t50)."""
    generator, parts = np.random.default_rng(0), []
    for kelvin in temperatures:
        age = np.linspace(-2.0, 2.5, 15)
        value = fraction_at(age) + generator.normal(0, noise, len(age))
        time = np.exp(age + half_time(kelvin))
        parts.append(pd.DataFrame({"temperature_K": kelvin, "time_s": time, "value": value}))
    table = pd.concat(parts).rename(columns={"value": "fraction_transformed"})
    return observations_of(table.assign(alloy="S", simulated=True, **columns))


def jmak(n):
    return lambda age: 1 - np.exp(-np.log(2) * np.exp(n * age))


def two_stages(age):
    return 0.5 * jmak(3)(age) + 0.5 * jmak(3)(age - 1.8)


@pytest.mark.parametrize(
    ("fraction_at", "best"),
    [
        (jmak(2.5), "jmak"),
        (jmak(2.0), "jmak, avrami_exponent = 2"),
        (lambda age: 0.66 * jmak(1.6)(age), "jmak_incomplete"),
        (two_stages, "jmak_two_stages"),
        (lambda age: jmak(1.5)(np.log((np.exp(age) - 0.4).clip(1e-6) / 0.6)), "jmak_incubation"),
    ],
)
def test_the_equation_that_made_the_observations_is_found(fraction_at, best):
    own = holds(fraction_at)
    table = hold_exponent(own, weigh(own, candidates(own), 0), 0)
    assert table["equation"][0].startswith(best)
    assert table["log_evidence"][0] == 0
    assert table["probability"].sum() == pytest.approx(1)
    told = features(table)
    # one feature made them: what it explains is no evidence for another; a second stage after the
    # last observation is as good as a plateau
    better = [text for text in told[:-1] if "but something else explains more" in text]
    some = [text for text in told[:-1] if not text.startswith("no evidence") and text not in better]
    # what JMAK alone does not explain is said, too
    assert all(": e^+" in text for text in better)
    assert len(some) == (best in {"jmak_incomplete", "jmak_two_stages", "jmak_incubation"})
    for text in some:
        assert text.startswith("weak" if best == "jmak_incomplete" else "clear evidence for")
        assert f"({best}" in text
    assert told[-1].startswith(f"exponent of {best.split(',')[0]}: avrami_exponent = ")


def test_what_another_feature_explains_better_is_still_held_against_jmak():
    names, logs = ["jmak_two_stages", "jmak_incomplete", "jmak"], [0.0, -11.4, -88.0]
    values = {"jmak_incomplete": {"final_fraction": 0.684}}
    estimates = [{"avrami_exponent": 2.0, **values.get(name, {})} for name in names]
    table = pd.DataFrame({"equation": names, "log_evidence": logs, "estimates": estimates})
    plateau, two_stages = features(table)
    assert plateau == (
        "a plateau: e^+76.6 over JMAK without it, but something else explains more "
        "(jmak_incomplete: e^-11.4 over jmak_two_stages, the best without; final_fraction 0.684)"
    )
    assert two_stages.startswith("clear evidence for two stages (jmak_two_stages: e^+11.4 over")


def test_a_plateau_is_named_and_a_reaction_that_goes_on_is_not():
    [note] = plateau_notes(holds(lambda age: 0.66 * jmak(1.6)(age)), EQUATIONS["jmak"], 0)
    assert "level off at 0.66" in note
    assert "n = 1.6" in note
    unfinished = holds(lambda age: jmak(1.6)(age - 2.0))
    assert unfinished.points["fraction_transformed"].max() < 0.95
    assert plateau_notes(unfinished, EQUATIONS["jmak"], 0) == []
    own = holds(lambda age: 0.66 * jmak(1.6)(age))
    assert plateau_notes(own, EQUATIONS["jmak_incomplete"], 0) == []


def test_a_held_parameter_is_as_if_it_had_that_value():
    equation = held(EQUATIONS["jmak"], "avrami_exponent", 2.0)
    assert equation.parameter_names == ["half_time_s", "activation_energy_kJ_mol"]
    inputs = {
        name: torch.tensor([value], dtype=torch.float64)
        for name, value in (
            ("temperature_K", 950.0),
            ("reference_temperature_K", 1000.0),
            ("time_s", 700.0),
        )
    }
    values = {"half_time_s": 200.0, "activation_energy_kJ_mol": 150.0}
    free = EQUATIONS["jmak"].standardise(values | {"avrami_exponent": 2.0})
    torch.testing.assert_close(
        equation.predict("fraction", equation.standardise(values), inputs),
        EQUATIONS["jmak"].predict("fraction", free, inputs),
    )


def test_q_over_the_conversion_of_holds():
    table = isoconversional(holds(jmak(2.0), noise=0.0))
    assert set(table["method"]) == {"Friedman", "Vyazovkin"}
    np.testing.assert_allclose(table["activation_energy_kJ_mol"], 180, rtol=0.02)
    assert all("flat, one activation energy" in text for text in flatness(table))


def test_q_over_the_conversion_of_ramps():
    parts = []
    for rate in (0.05, 0.2, 1.0):
        kelvin = np.linspace(700, 1300, 4001)
        time = (kelvin - 700) / rate
        fraction = fraction_along(torch.tensor(time), torch.tensor(half_time(kelvin)), 2.0).numpy()
        part = pd.DataFrame({"temperature_K": kelvin, "time_s": time, "run": f"r{rate}"})
        busy = np.flatnonzero((fraction > 0.01) & (fraction < 0.99))[::4]
        parts.append(part.assign(fraction_transformed=fraction).iloc[busy])
    own = observations_of(pd.concat(parts).assign(alloy="S", start_temperature_K=700))
    table = isoconversional(own)
    assert set(table["method"]) == {"Friedman", "Vyazovkin", "KAS"}
    for method, tolerance in (("Friedman", 0.03), ("Vyazovkin", 0.03), ("KAS", 0.05)):
        energy = table.loc[table["method"] == method, "activation_energy_kJ_mol"]
        np.testing.assert_allclose(energy, 180, rtol=tolerance)


def test_two_mechanisms_are_not_flat():
    """The first half of the reaction has Q 120, the second 300."""
    parts = []
    for kelvin in (950.0, 1000.0, 1050.0):
        age = np.linspace(-3, 3, 60)
        time = np.exp(age) * 300
        first = jmak(2)(np.log(time) - half_time(kelvin, 120.0))
        second = jmak(2)(np.log(time) - half_time(kelvin, 300.0) - 1.5)
        value = 0.5 * (first + second)
        parts.append(
            pd.DataFrame({"temperature_K": kelvin, "time_s": time, "fraction_transformed": value})
        )
    own = observations_of(pd.concat(parts).assign(alloy="S"))
    assert any("not flat" in text for text in flatness(isoconversional(own)))


def test_the_command_writes_what_it_says(tmp_path, caplog):
    data = tmp_path / "fractions.csv"
    holds(jmak(2.0)).points.to_csv(data, index=False)
    arguments = ["kinetics", "compare-equations", "--data", data, "--out", tmp_path]
    with caplog.at_level("INFO"):
        CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    table = pd.read_csv(tmp_path / "S/equations.csv")
    assert table["equation"][0] == "jmak, avrami_exponent = 2"
    assert (tmp_path / "S/isoconversional.png").stat().st_size > 10_000
    assert pd.read_csv(tmp_path / "S/isoconversional.csv")["runs"].eq(3).all()
