"""Equations of other processes: independent answers, units, and simulated alloys recovered.

All observations here are simulated: parameters drawn from a population, conditions from a usual
experiment, noise added.
"""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from scipy.integrate import solve_ivp
from torch import Tensor

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import EQUATIONS, equation_named
from matml.kinetics.equations.form.types import Values
from matml.kinetics.equations.grain_growth import GRAIN_GROWTH
from matml.kinetics.equations.martensite import martensite_fraction, van_bohemen_rate
from matml.kinetics.equations.peaks import log_frequency
from matml.kinetics.equations.recrystallisation import GRAIN_UM, STRAIN
from matml.kinetics.equations.steels import li_time, martensite_start_K
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.population import learn_population
from matml.kinetics.listing import described, described_by_name

R = 8.31446261815324
REFERENCE_K = 900.0
ELEMENTS = ("C", "Mn", "Si", "Ni", "Cr", "Mo")


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def sellars_half_time(
    temperature_K: Tensor,
    strain: Tensor,
    strain_rate_per_s: Tensor,
    grain_size_um: Tensor,
    *,
    factor: Tensor | float,
    grain_exponent: Tensor | float,
    strain_exponent: Tensor | float,
    rate_exponent: Tensor | float,
    activation_energy_kJ_mol: Tensor | float,
) -> Tensor:
    """Return the time in s to half static recrystallisation.

    t50 = A d^s strain^-p rate^-r exp(Q / RT) (Sellars and Whiteman, Met. Sci. 13 (1979) 187; for
    C-Mn steels A = 2.3e-15 s, s = 2, p = 2.5, r = 0, Q = 230 kJ/mol: Hodgson and Gibbs, ISIJ Int.
    32 (1992) 1329). Give the grain size in the unit of A, usually micrometres.
    """
    energy = 1000 * activation_energy_kJ_mol / (R * temperature_K)
    return (
        factor
        * grain_size_um**grain_exponent
        * strain ** (-strain_exponent)
        * strain_rate_per_s ** (-rate_exponent)
        * torch.exp(energy)
    )


def recrystallised_fraction(time_s: Tensor, half_time_s: Tensor, exponent: Tensor) -> Tensor:
    """Return 1 - exp[-ln 2 (t / t50)^n], Sellars' form of JMAK."""
    return -torch.expm1(-math.log(2) * (time_s / half_time_s) ** exponent)


def grown_grain_size(
    initial: Tensor, rate: Tensor, time_s: Tensor, exponent: Tensor | float
) -> Tensor:
    """Return (d0^m + K t)^(1/m), the grain size in the unit of d0.

    Beck, Kremer, Demer and Holzworth, Trans. AIME 175 (1948) 372; m = 2 is Burke and Turnbull's.
    Computed from the ratio to d0, since d^m of micrometres overflows at large m.
    """
    return initial * (1 + rate * time_s / initial**exponent) ** (1 / exponent)


def coarsened_radius(initial: Tensor, rate: Tensor, time_s: Tensor) -> Tensor:
    """Return (r0^3 + K t)^(1/3), coarsening limited by diffusion.

    Lifshitz and Slyozov, J. Phys. Chem. Solids 19 (1961) 35; Wagner, Z. Elektrochem. 65 (1961) 581.
    """
    return (initial**3 + rate * time_s) ** (1 / 3)


def coarsening_rate(
    interface_energy_J_m2: Tensor,
    solubility: Tensor,
    diffusivity_m2_s: Tensor,
    molar_volume_m3_mol: Tensor,
    temperature_K: Tensor,
) -> Tensor:
    """Return K = 8 gamma c D Vm / (9 R T) in m^3/s; c the mole fraction dissolved at equilibrium.

    Lifshitz, Slyozov and Wagner, for a dilute matrix of equal molar volume.
    """
    top = 8 * interface_energy_J_m2 * solubility * diffusivity_m2_s * molar_volume_m3_mol
    return top / (9 * R * temperature_K)


def kissinger_energy(peak_temperature_K: Tensor, heating_rate_K_s: Tensor) -> tuple[Tensor, Tensor]:
    """Return (activation energy in J/mol, ln of the frequency factor in 1/s) from peaks, [..., N].

    The line of ln(rate / Tp^2) against 1 / Tp has the slope -Q/R and the intercept ln(A R / Q)
    (Kissinger, Anal. Chem. 29 (1957) 1702); least squares over the last axis.
    """
    inverse = 1 / peak_temperature_K
    ordinate = (heating_rate_K_s / peak_temperature_K**2).log()
    x = inverse - inverse.mean(-1, keepdim=True)
    slope = (x * ordinate).sum(-1) / x.square().sum(-1)
    energy = -slope * R
    intercept = ordinate.mean(-1) - slope * inverse.mean(-1)
    return energy, intercept + (energy / R).log()


def kissinger_rate(peak_temperature_K: Tensor, energy: Tensor, log_frequency: Tensor) -> Tensor:
    """Return the heating rate in K/s at which a first-order reaction peaks at a temperature."""
    ratio = energy / R
    return (
        ratio.reciprocal()
        * peak_temperature_K**2
        * (log_frequency - ratio / peak_temperature_K).exp()
    )


def sellars_factor(values: Values, reference_temperature_K: float) -> Tensor:
    """Return A of the raw form, s um^-s s^-r: an extrapolation to infinite temperature."""
    energy = 1000 * values["activation_energy_kJ_mol"] / R
    log = (
        values["half_time_s"].log()
        - values["grain_exponent"] * torch.tensor(GRAIN_UM).log()
        + values["strain_exponent"] * torch.tensor(STRAIN).log()
        - energy / reference_temperature_K
    )
    return log.exp()


def predict(name, kind, values, **inputs):
    equation = equation_named(name)
    columns = {key: torch.as_tensor(value).double() for key, value in inputs.items()}
    return equation.predict(kind, equation.standardise(values), columns).numpy()


def test_kissinger_is_where_an_integrated_reaction_peaks():
    """First-order kinetics heated at each rate, by a fine sum; and the line gives Q and A back."""
    values = {"activation_energy_kJ_mol": 180.0, "peak_at_10_K_per_min_K": 720.0}
    rates = np.array([2.0, 5.0, 10.0, 20.0, 40.0]) / 60
    peaks = predict("kissinger", "peak_temperature", values, heating_rate_K_per_s=rates)
    assert peaks[2] == pytest.approx(720.0)
    log_a = float(log_frequency({k: double(v) for k, v in values.items()}))
    for rate, peak in zip(rates, peaks, strict=True):
        kelvin = np.linspace(400, 1000, 600_001)
        k = np.exp(log_a - 180e3 / (R * kelvin))
        left = np.exp(-np.cumsum(k) * 1e-3 / rate)
        assert kelvin[(k * left).argmax()] == pytest.approx(peak, abs=0.02)
    energy, found = kissinger_energy(torch.from_numpy(peaks), torch.from_numpy(rates))
    assert float(energy) == pytest.approx(180e3, rel=1e-9)
    assert float(found) == pytest.approx(log_a, rel=1e-9)


def test_sellars_of_a_carbon_manganese_steel():
    """A = 2.3e-15, s = 2, p = 2.5, r = 0, Q = 230 kJ/mol (Hodgson and Gibbs 1992), raw form."""
    raw = {
        "factor": 2.3e-15,
        "grain_exponent": 2.0,
        "strain_exponent": 2.5,
        "rate_exponent": 0.0,
        "activation_energy_kJ_mol": 230.0,
    }
    half = sellars_half_time(double(1200.0), double(0.3), double(1.0), double(100.0), **raw)
    values = {k: v for k, v in raw.items() if k != "factor"}
    values |= {"half_time_s": float(half), "avrami_exponent": 1.0}
    conditions = {
        "temperature_K": double(1123.0, 1223.0, 1323.0),
        "strain": double(0.2, 0.3, 0.5),
        "strain_rate_per_s": double(0.1, 1.0, 10.0),
        "grain_size_um": double(30.0, 100.0, 200.0),
    }
    time = double(5.0, 2.0, 0.1)
    expected = 1 - 0.5 ** (time / sellars_half_time(**conditions, **raw))
    conditions["initial_grain_size_um"] = conditions.pop("grain_size_um")
    reference = torch.full((3,), 1200.0)
    inputs = {**conditions, "time_s": time, "reference_temperature_K": reference}
    assert predict("sellars", "fraction", values, **inputs) == pytest.approx(expected.numpy())
    own = {k: double(v) for k, v in values.items()}
    assert float(sellars_factor(own, 1200.0)) == pytest.approx(2.3e-15, rel=1e-6)


def at_900_K(time_s):
    held = {"temperature_K": 900.0, "reference_temperature_K": 900.0, "time_s": time_s}
    return {name: double(value) for name, value in held.items()}


def test_sellars_recrystallisation_of_a_carbon_manganese_steel():
    """Hodgson and Gibbs 1992: t50 = 2.3e-15 strain^-2.5 d^2 exp(230 kJ / RT)."""
    half = sellars_half_time(
        double(1273.15),
        double(0.3),
        double(1.0),
        double(50.0),
        factor=2.3e-15,
        grain_exponent=2.0,
        strain_exponent=2.5,
        rate_exponent=0.0,
        activation_energy_kJ_mol=230.0,
    )
    expected = 2.3e-15 * 0.3**-2.5 * 2500 * math.exp(230_000 / (R * 1273.15))
    assert float(half) == pytest.approx(expected)
    assert 0.1 < float(half) < 1.0  # half recrystallised within a second at 1000 C
    assert float(recrystallised_fraction(half, half, double(1.0))) == pytest.approx(0.5)


def test_units_of_coarsening_and_grain_growth():
    pint = pytest.importorskip("pint", reason="pint checks units; it is not installed")
    units = pint.UnitRegistry()
    energy, diffusivity = 0.2 * units.J / units.m**2, 1e-17 * units.m**2 / units.s
    volume, temperature = 7.1e-6 * units.m**3 / units.mol, 900 * units.kelvin
    rate = 8 * energy * 0.01 * diffusivity * volume / (9 * units.molar_gas_constant * temperature)
    mine = coarsening_rate(double(0.2), double(0.01), double(1e-17), double(7.1e-6), double(900.0))
    assert float(mine) == pytest.approx(rate.to("m^3/s").magnitude)


def test_grain_growth_and_coarsening():
    # parabolic growth: d^2 - d0^2 = K t
    assert float(grown_grain_size(double(3.0), double(2.0), double(8.0), 2.0)) == pytest.approx(5)
    large = grown_grain_size(double(30.0), double(30.0**40), double(1.0), 40.0)
    assert float(large) == pytest.approx(30 * 2 ** (1 / 40))
    assert float(coarsened_radius(double(2.0), double(0.1), double(80.0))) == pytest.approx(
        16 ** (1 / 3)
    )
    vector = GRAIN_GROWTH.start()
    values = {k: float(v) for k, v in GRAIN_GROWTH.values(vector).items()}
    given = at_900_K(values["doubling_time_s"]) | {"initial_grain_size_um": double(10.0)}
    assert 10 ** float(GRAIN_GROWTH.predict("grain_size", vector, given)) == pytest.approx(20)
    # against the closed form with K written out, another start and temperature
    rate = (20.0**3 - 10.0**3) / 1000.0 * math.exp(-250_000 / R * (1 / 950 - 1 / 900))
    given = at_900_K(300.0) | {"initial_grain_size_um": double(25.0)}
    given["temperature_K"] = double(950.0)
    expected = float(grown_grain_size(double(25.0), double(rate), double(300.0), 3.0))
    assert 10 ** float(GRAIN_GROWTH.predict("grain_size", vector, given)) == pytest.approx(expected)


def test_kissinger_of_a_reaction_that_was_integrated():
    """First-order reactions heated at four rates by an ODE solver: peaks give Q and A back."""
    energy, log_a = 200_000.0, math.log(1e13)
    rates, peaks = [5 / 60, 10 / 60, 20 / 60, 40 / 60], []
    for rate in rates:

        def slope(temperature, f, rate=rate):
            return math.exp(log_a - energy / (R * temperature)) * (1 - f[0]) / rate

        grid = np.linspace(600, 900, 30_001)
        found = solve_ivp(slope, (600, 900), [0.0], t_eval=grid, rtol=1e-10, atol=1e-12)
        flow = np.array([slope(t, [f]) for t, f in zip(grid, found.y[0], strict=True)])
        peaks.append(grid[flow.argmax()])
    found_energy, found_log = kissinger_energy(double(*peaks), double(*rates))
    assert float(found_energy) == pytest.approx(energy, rel=2e-3)
    assert float(found_log) == pytest.approx(log_a, rel=2e-3)
    back = kissinger_rate(double(*peaks), found_energy, found_log)
    np.testing.assert_allclose(back.numpy(), rates, rtol=2e-3)


def test_lsw_is_the_cubic_law():
    values = {
        "initial_radius_nm": 5.0,
        "rate_constant_nm3_per_s": 0.02,
        "activation_energy_kJ_mol": 250.0,
    }
    kelvin, time = np.array([850.0, 900.0, 950.0]), np.array([60.0, 3600.0, 1e6])
    rate = 0.02 * np.exp(-250e3 / R * (1 / kelvin - 1 / 900))
    found = predict(
        *("lsw", "particle_radius", values),
        temperature_K=kelvin,
        time_s=time,
        reference_temperature_K=np.full(3, 900.0),
    )
    assert 10**found == pytest.approx((125 + rate * time) ** (1 / 3))


def test_units_of_the_new_equations():
    """Rates, Kissinger's ordinate and the tempering parameter by a unit library."""
    pint = pytest.importorskip("pint", reason="pint checks units; it is not installed")
    units = pint.UnitRegistry()
    rate = units.Quantity(0.02, "nm^3/s") * units.Quantity(10.0, "hour")
    radius = ((units.Quantity(5.0, "nm") ** 3 + rate) ** (1 / 3)).to("nm").magnitude
    values = {
        "initial_radius_nm": 5.0,
        "rate_constant_nm3_per_s": 0.02,
        "activation_energy_kJ_mol": 250.0,
    }
    inputs = {"temperature_K": double(900.0), "reference_temperature_K": double(900.0)}
    found = predict("lsw", "particle_radius", values, time_s=double(36000.0), **inputs)
    assert 10 ** found[0] == pytest.approx(radius)
    peak, heating = units.Quantity(650.0, "kelvin"), units.Quantity(10.0, "kelvin/minute")
    ratio = units.Quantity(200.0, "kJ/mol") / units.molar_gas_constant
    frequency = heating * ratio / peak**2 * np.exp((ratio / peak).to("").magnitude)
    own = {"activation_energy_kJ_mol": double(200.0), "peak_at_10_K_per_min_K": double(650.0)}
    log_a = float(log_frequency(own))
    assert np.exp(log_a) == pytest.approx(frequency.to("1/s").magnitude, rel=1e-6)
    below = units.Quantity(0.011, "1/kelvin") * units.Quantity(90.0, "delta_degC").to("kelvin")
    athermal = {"martensite_start_K": 600.0, "rate_per_K": 0.011}
    found = predict("koistinen_marburger", "martensite", athermal, temperature_K=double(510.0))
    assert found[0] == pytest.approx(1 - np.exp(-below.to("").magnitude))


def test_martensite_agrees_with_the_functions_of_numpy():
    steel = {"C": 0.4, "Mn": 0.7, "Si": 0.3, "Ni": 1.8, "Cr": 0.8, "Mo": 0.25}
    kelvin = np.array([300.0, 450.0, 560.0, 700.0])
    amounts = {f"{e}_wt_pct": np.full(4, steel[e]) for e in ELEMENTS}
    found = predict(
        *("van_bohemen", "martensite", {"start_shift_K": 0.0, "rate_factor": 1.0}),
        temperature_K=kelvin,
        **amounts,
    )
    start, rate = martensite_start_K(steel), van_bohemen_rate(steel)
    assert found == pytest.approx(martensite_fraction(kelvin, start, rate))
    values = {"martensite_start_K": start, "rate_per_K": rate}
    again = predict("koistinen_marburger", "martensite", values, temperature_K=kelvin)
    assert again == pytest.approx(found)


@pytest.mark.parametrize("integral", ["li", "kirkaldy"])
def test_published_values_give_the_published_curve(integral):
    steel = {"C": 0.8, "Mn": 0.75, "Si": 0.25, "Ni": 0.1, "Cr": 0.2, "Mo": 0.05}
    equation = equation_named(f"{integral}_pearlite")
    values = {p.name: p.start for p in equation.parameters}
    kelvin = np.array([780.0, 820.0, 900.0])
    from matml.kinetics.equations.steels import eutectoid_temperature_K

    for fraction in (0.01, 0.5, 0.99):
        expected = li_time(
            *("pearlite", steel, 7.0, eutectoid_temperature_K(steel), kelvin, fraction, integral)
        )
        found = predict(
            *(equation.name, "ttt", values),
            temperature_K=kelvin,
            fraction=np.full(3, fraction),
            grain_size_ASTM=np.full(3, 7.0),
            **{f"{e}_wt_pct": np.full(3, steel[e]) for e in ELEMENTS},
        )
        assert 10**found == pytest.approx(expected, rel=1e-9)


def conditions(kind, rng):
    """One alloy's simulated experiment: its columns."""
    if kind == "peak_temperature":
        return {"heating_rate_K_per_s": np.array([2, 5, 10, 20, 40, 80]) / 60}
    if kind == "martensite":
        return {"temperature_K": np.sort(rng.uniform(300, 800, 40))}
    if kind == "ttt":
        table = {"temperature_K": np.repeat(np.linspace(760.0, 960.0, 6), 3)}
        return table | {"fraction": np.tile([0.01, 0.5, 0.99], 6), "time_s": np.ones(18)}
    table = {"temperature_K": np.repeat(REFERENCE_K + np.array([-40.0, 0.0, 40.0]), 6)}
    table["time_s"] = np.tile(np.geomspace(300, 3e5, 6), 3) * rng.uniform(0.8, 1.2, 18)
    if kind == "fraction":
        table["time_s"] = np.tile(np.geomspace(0.5, 200, 6), 3)
        table["strain"] = np.tile([0.15, 0.3, 0.5], 6)
        table["strain_rate_per_s"] = rng.choice([0.1, 1.0, 10.0], 18)
        table["initial_grain_size_um"] = np.repeat(rng.uniform(20, 200, 3), 6)
    return table


def simulate(name, folder, count=16, seed=0, spread=0.6):
    """Write simulated observations and alloys; returns the true values by alloy."""
    rng, equation = np.random.default_rng(seed), equation_named(name)
    kind, observable = next(iter(equation.observables.items()))
    needs = {i.name for i in observable.inputs}
    rows, alloys, truth = [], [], {}
    for number in range(count):
        alloy = f"S{number:02d}"
        position = equation.start() + spread * torch.from_numpy(
            rng.standard_normal(len(equation.parameters))
        )
        table = conditions(kind, rng)
        own = {f"{e}_wt_pct": a for e, a in zip(ELEMENTS, rng.uniform(0.05, 0.5, 6), strict=True)}
        own |= {"grain_size_ASTM": 7.0, "reference_temperature_K": REFERENCE_K}
        size = len(next(iter(table.values())))
        given = table | {key: np.full(size, value) for key, value in own.items()}
        inputs = {key: torch.from_numpy(value.astype(float)) for key, value in given.items()}
        value = equation.predict(kind, position, inputs).numpy()
        # a fraction cut to 0 or 1 has no error, and says nothing of the noise
        inside = (value > 0.1) & (value < 0.9) if kind == "martensite" else np.ones(size, bool)
        value = value + rng.normal(0, observable.typical_noise, size)
        value = 10**value if observable.unit.startswith("log10") else value
        if observable.unit == "fraction":
            value = value.clip(0, 1)
        block = pd.DataFrame(table)
        if kind == "ttt":
            block = block.rename(columns={"fraction": "ttt_fraction"}).assign(time_s=value)
        else:
            block[observable.column] = value
        rows.append(block[inside].assign(alloy=alloy, simulated=True))
        kept = {k: v for k, v in own.items() if k in needs or k == "reference_temperature_K"}
        alloys.append({"alloy": alloy, "composition_group": alloy} | kept)
        truth[alloy] = position
    pd.concat(rows).to_csv(folder / "points.csv", index=False)
    pd.DataFrame(alloys).to_csv(folder / "alloys.csv", index=False)
    return truth


NEW = (
    "sellars",
    "lsw",
    "kissinger",
    "hollomon_jaffe",
    "koistinen_marburger",
    "van_bohemen",
    "li_pearlite",
)


def estimates_lie_in_their_intervals(population, data, alloy):
    """Two observations under one condition, as they are and pulled far apart."""
    column = population.equation.observable(population.kind).column
    for factors in ((1.0, 1.0), (1.7, 0.6)):
        own = data.select([alloy])
        name = "temperature_K" if "temperature_K" in own.points else "heating_rate_K_per_s"
        rows = own.points[own.points[name] == own.points[name].iloc[0]].iloc[:2]
        value = rows[column] * list(factors[: len(rows)])
        value = value.clip(0, 1) if "fraction" in column else value
        own = replace(own, points=rows.assign(**{column: value}).reset_index(drop=True))
        result = calibrate(population, own, alloy, 0)
        for row in result.parameters().itertuples():
            assert row.low_90 <= row.median <= row.high_90
            assert row.low_90 <= row.most_probable <= row.high_90
        # the fit is the mode of the very posterior that the draws are from
        assert bool(result.fit.converged[0])
        assert float((result.fit.position - result.draws).square().sum(1).min()) < 4


@pytest.mark.parametrize("name", NEW)
def test_simulated_alloys_are_recovered_from_a_few_points(name, tmp_path):
    """Learned from 12 alloys, 4 others from 4 points each: the truth lies in the intervals."""
    truth = simulate(name, tmp_path)
    data = read_observations(tmp_path / "points.csv", tmp_path / "alloys.csv")
    assert data.simulated
    assert data.quarantine.empty
    equation, held_out = equation_named(name), data.names[12:]
    origin = tmp_path / "points.csv"
    population, _ = learn_population(data, equation, 2.0, 0, held_out=held_out, origin=origin)
    inside, closer = [], []
    for alloy in held_out:
        own = data.select([alloy])
        own = replace(own, points=own.points.iloc[:: max(1, len(own.points) // 4)][:4])
        result = calibrate(population, own, alloy, 0)
        table = result.parameters()
        values = [float(v) for v in equation.values(truth[alloy]).values()]
        inside += [
            low <= value <= high
            for low, high, value in zip(table["low_90"], table["high_90"], values, strict=True)
        ]
        prior = result.prior.mean[0]
        closer.append(
            float((result.fit.position[0] - truth[alloy]).norm() - (prior - truth[alloy]).norm())
        )
    estimates_lie_in_their_intervals(population, data, held_out[0])
    # 90 % of 8 to 24 values: fewer than three quarters would be strange
    assert np.mean(inside) >= 0.75
    assert np.mean(closer) < 0


@pytest.mark.parametrize(
    ("header", "row", "field", "message"),
    [
        ("peak_temperature_C,heating_rate_K_per_min", "9000,10", "peak_temperature_C", "no calor"),
        (
            "peak_temperature_K,heating_rate_K_per_s",
            "600,-1",
            "heating_rate_K_per_s",
            "is not a heating rate",
        ),
        (
            "peak_temperature_K,heating_rate_K_per_s",
            "600,",
            "heating_rate_K_per_s",
            "is not a heating rate",
        ),
        ("peak_temperature_K,heating_rate_K_per_s", "x,1", "peak_temperature_K", "not a number"),
        ("martensite_fraction,temperature_C", "60,100", "martensite_fraction", "between 0 and 1"),
        ("martensite_fraction,temperature_K", "0.5,-3", "temperature_K", "absolute zero"),
        ("particle_radius_nm,temperature_C,time_s", "-2,700,60", "particle_radius_nm", "radius"),
        ("particle_radius_nm,temperature_C,time_s", "2,700,0", "time_s", "positive"),
        (
            "fraction_transformed,temperature_C,time_s,strain",
            "0.5,900,5,30",
            "strain",
            "no true strain",
        ),
        (
            "fraction_transformed,temperature_C,time_s,strain_rate_per_s",
            "0.5,900,5,nan",
            "strain_rate_per_s",
            "is not a strain rate",
        ),
    ],
)
def test_wrong_cells_of_new_columns_are_named(tmp_path, header, row, field, message):
    table = tmp_path / "points.csv"
    table.write_text(f"alloy,{header}\nX,{row}\n")
    with pytest.raises(MatmlError, match=f"line 2, {field} = .*{message}"):
        read_observations(table)


def test_other_units_are_the_same_observations(tmp_path):
    """Celsius and K/min are kelvin and K/s; both at once are refused."""
    tables = []
    for header, row in (
        ("peak_temperature_C,heating_rate_K_per_min", "400,30"),
        ("peak_temperature_K,heating_rate_K_per_s", "673.15,0.5"),
    ):
        path = tmp_path / "points.csv"
        path.write_text(f"alloy,{header}\nX,{row}\n")
        tables.append(read_observations(path).points)
    columns = ["peak_temperature_K", "heating_rate_K_per_s"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    path.write_text("alloy,peak_temperature_C,peak_temperature_K,heating_rate_K_per_s\nX,1,2,3\n")
    with pytest.raises(MatmlError, match="has both"):
        read_observations(path)
    path.write_text("alloy,peak_temperature_C\nX,400\n")
    with pytest.raises(MatmlError, match="heating_rate_K_per_s' is missing, which peak"):
        read_observations(path)


def run(*arguments):
    return CliRunner().invoke(cli, ["kinetics", *map(str, arguments)], catch_exceptions=False)


def test_the_list_of_equations_is_in_step_and_needs_no_torch():
    stored = described_by_name(None)
    assert stored == [described(equation) for equation in EQUATIONS.values()]
    script = (
        "import sys; from click.testing import CliRunner; from matml.cli.main import cli; "
        "found = CliRunner().invoke(cli, ['kinetics', 'equations'], catch_exceptions=False); "
        "assert 'kissinger:' in found.output; "
        "print([m for m in ('torch', 'numpy', 'pandas', 'scipy') if m in sys.modules])"
    )
    call = [sys.executable, "-c", script]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["kissinger", "koistinen_marburger"])
def test_commands_learn_calibrate_and_design(name, tmp_path):
    simulate(name, tmp_path, count=6)
    settings = tmp_path / "k.yaml"
    settings.write_text("meta_batches: 1\nmeta_tasks: 1\n")
    data = ("--data", tmp_path / "points.csv", "--alloys", tmp_path / "alloys.csv")
    learned = ("--equation", name, "--held-out", 0, "--config", settings)
    run("learn", *data, *learned, "--out", tmp_path)
    prior = ("--prior", tmp_path / "population.json")
    run("calibrate", *prior, *data, "--alloy", "S00", "--points", 3, "--out", tmp_path)
    curve = pd.read_csv(tmp_path / "S00" / "curve.csv")
    assert (curve["low_90"] <= curve["high_90"]).all()
    assert (tmp_path / "S00" / "curve.png").stat().st_size > 10_000
    said = run("design", *prior, *data, "--alloy", "S00", "--out", tmp_path, "--points", 2).output
    assert said.startswith("1. heating at" if name == "kissinger" else "1. ")
    assert len(pd.read_csv(tmp_path / "design.csv")) == 2
    assert (tmp_path / "design.png").is_file()


def test_the_listing_names_columns_units_and_sources():
    said = run("equations").output
    for text in ("lsw:", "strain_rate_per_s (1/s)", "Anal. Chem. 29", "0.005 to 0.04"):
        assert text in said
    alone = run("equations", "kissinger").output
    assert "lsw" not in alone
    assert "peak_at_10_K_per_min_K (K): 350 to 1100" in alone
