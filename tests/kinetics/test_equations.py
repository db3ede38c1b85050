"""Equations against worked values, independent numpy, finite differences and units."""

import math

import numpy as np
import pytest
import torch

from matml.core.errors import MatmlError
from matml.kinetics.equations import EQUATIONS, Parameter, equation_named
from matml.kinetics.equations.c_curve import SMALLEST_UNDERCOOLING, log_half_time
from matml.kinetics.equations.softening import hollomon_jaffe
from matml.kinetics.equations.steels import (
    REACTIONS,
    bainite_start_K,
    eutectoid_temperature_K,
    li_integral,
    li_time,
    martensite_start_K,
)

R = 8.314462618
STEEL = {"C": 0.4, "Mn": 0.7, "Si": 0.25, "Ni": 0.5, "Cr": 0.9, "Mo": 0.2}
INPUTS = {
    "initial_grain_size_um": torch.tensor([5.0, 10.0, 20.0, 40.0], dtype=torch.float64),
    "strain": torch.tensor([0.1, 0.3, 0.5, 0.2], dtype=torch.float64),
    "strain_rate_per_s": torch.tensor([0.1, 1.0, 3.0, 30.0], dtype=torch.float64),
    "heating_rate_K_per_s": torch.tensor([0.02, 0.1, 0.7, 5.0], dtype=torch.float64),
    "grain_size_ASTM": torch.tensor([7.0, 8.0, 5.0, 6.0], dtype=torch.float64),
    **{f"{e}_wt_pct": torch.full((4,), a, dtype=torch.float64) for e, a in STEEL.items()},
    "temperature_K": torch.tensor([840.0, 880.0, 910.0, 935.0], dtype=torch.float64),
    "time_s": torch.tensor([3.0, 60.0, 900.0, 5000.0], dtype=torch.float64),
    "fraction": torch.tensor([0.01, 0.3, 0.5, 0.99], dtype=torch.float64),
    "reference_temperature_K": torch.full((4,), 880.0, dtype=torch.float64),
}
CASES = [(name, kind) for name, equation in EQUATIONS.items() for kind in equation.observables]


def tensors(values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def test_jmak_is_the_law_with_k0_and_an_arrhenius_rate():
    values = {"half_time_s": 50.0, "activation_energy_kJ_mol": 180.0, "avrami_exponent": 1.7}
    k_reference = math.log(2) ** (1 / 1.7) / 50.0
    k0 = k_reference * math.exp(180e3 / (R * 880.0))
    rate = k0 * np.exp(-180e3 / (R * INPUTS["temperature_K"].numpy()))
    expected = 1 - np.exp(-((rate * INPUTS["time_s"].numpy()) ** 1.7))
    jmak = equation_named("jmak")
    got = jmak.predict("fraction", jmak.standardise(values), INPUTS)
    assert got.numpy() == pytest.approx(expected, rel=1e-7, abs=1e-12)
    # the other form b t^n, with b = k^n
    assert 1 - np.exp(-(rate**1.7) * INPUTS["time_s"].numpy() ** 1.7) == pytest.approx(expected)
    time = jmak.predict("ttt", jmak.standardise(values), INPUTS)
    wanted = (-np.log(1 - INPUTS["fraction"].numpy())) ** (1 / 1.7) / rate
    assert time.numpy() == pytest.approx(np.log10(wanted))


def test_jmak_of_a_published_glass():
    """Cu46Zr45Al7Y2, n 2.6 and Q 484 kJ/mol (Qiao and Pelletier 2011): 10 K are a factor of 2.2."""
    jmak = equation_named("jmak")
    vector = jmak.standardise(
        {"half_time_s": 600.0, "activation_energy_kJ_mol": 484.0, "avrami_exponent": 2.6}
    )
    at = {
        "temperature_K": torch.tensor([740.0, 750.0], dtype=torch.float64),
        "fraction": torch.full((2,), 0.5, dtype=torch.float64),
        "reference_temperature_K": torch.full((2,), 740.0, dtype=torch.float64),
    }
    time = 10 ** jmak.predict("ttt", vector, at)
    assert time.tolist() == pytest.approx([600.0, 600.0 / 2.854], rel=1e-3)


C_VALUES = {
    "nose_half_time_s": 200.0,
    "nose_temperature_K": 880.0,
    "nose_width_K": 45.0,
    "undercooling_depth_K": 120.0,
    "avrami_exponent": 2.2,
}


def test_c_curve_is_the_undercooling_law_re_centred():
    nose, depth, width = 880.0, 120.0, 45.0
    order = 1 / (width**2 * (1 / depth**2 + 2 / (depth * nose)))
    energy = R * order * nose**2 / depth
    critical = nose + depth
    temperature = np.linspace(700, critical - SMALLEST_UNDERCOOLING * depth - 1, 60)

    def raw(t):
        return -order * np.log(critical - t) + energy / (R * t)

    expected = np.log(200.0) + raw(temperature) - raw(nose)
    got = log_half_time(tensors(C_VALUES), {"temperature_K": torch.from_numpy(temperature)})
    assert got.numpy() == pytest.approx(expected, abs=1e-9)


def test_c_curve_nose_and_width_are_where_they_say():
    temperature = torch.tensor([880.0], dtype=torch.float64, requires_grad=True)
    value = log_half_time(tensors(C_VALUES), {"temperature_K": temperature})
    (slope,) = torch.autograd.grad(value, temperature, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, temperature)
    assert value.item() == pytest.approx(math.log(200.0))
    assert slope.item() == pytest.approx(0.0, abs=1e-12)
    assert curvature.item() == pytest.approx(1 / 45.0**2)


def test_c_curve_is_finite_and_rising_above_the_critical_temperature():
    temperature = torch.linspace(880.0, 1300.0, 200, dtype=torch.float64)
    value = log_half_time(tensors(C_VALUES), {"temperature_K": temperature})
    assert torch.isfinite(value).all()
    assert (value.diff() > 0).all()


def test_softening_starts_hard_and_ends_soft():
    softening = equation_named("softening")
    vector = softening.standardise(
        {
            "half_time_s": 1000.0,
            "activation_energy_kJ_mol": 250.0,
            "softening_exponent": 0.2,
            "hard_hardness_HRC": 60.0,
            "soft_hardness_HRC": 10.0,
        }
    )
    at = {
        "temperature_K": torch.full((3,), 800.0, dtype=torch.float64),
        "time_s": torch.tensor([1e-30, 1000.0, 1e12], dtype=torch.float64),
        "reference_temperature_K": torch.full((3,), 800.0, dtype=torch.float64),
    }
    assert softening.predict("hardness", vector, at).tolist() == pytest.approx(
        [60.0, 35.0, 10.0], abs=0.01
    )


def test_hollomon_jaffe_worked_value():
    """600 C for one hour with C = 20: 873.15 * 20 (Hollomon and Jaffe 1945)."""
    one_hour = torch.tensor([3600.0, 36000.0], dtype=torch.float64)
    got = hollomon_jaffe(torch.full((2,), 873.15, dtype=torch.float64), one_hour)
    assert got.tolist() == pytest.approx([17463.0, 18336.15])


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gradients_agree_with_finite_differences(name, kind):
    equation = equation_named(name)
    position = equation.start() + 0.1
    jacobian = torch.autograd.functional.jacobian(
        lambda z: equation.predict(kind, z, INPUTS), position
    )
    for k in range(len(position)):
        shift = torch.zeros_like(position)
        shift[k] = 1e-6
        ahead = equation.predict(kind, position + shift, INPUTS)
        behind = equation.predict(kind, position - shift, INPUTS)
        torch.testing.assert_close(jacobian[:, k], (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_batches_equal_single_alloys(name, kind):
    equation = equation_named(name)
    positions = torch.stack([equation.start(), equation.start() - 0.5])
    batch = {key: column.expand(2, 4) for key, column in INPUTS.items()}
    together = equation.predict(kind, positions[:, None], batch)
    for row in range(2):
        alone = equation.predict(kind, positions[row], INPUTS)
        torch.testing.assert_close(together[row], alone)


@pytest.mark.parametrize("name", EQUATIONS)
def test_standardised_values_return_and_starts_are_typical(name):
    equation = equation_named(name)
    start = {p.name: p.start for p in equation.parameters}
    values = equation.values(equation.start())
    assert {k: float(v) for k, v in values.items()} == pytest.approx(start)
    assert equation.start().abs().max() <= 2


def test_arrhenius_units():
    """Q in kJ/mol over R in J/(mol K) and T in K must be a number: checked by a unit library."""
    pint = pytest.importorskip("pint", reason="pint checks units; it is not installed")
    units = pint.UnitRegistry()
    energy = 180 * units.kilojoule / units.mole
    exponent = energy / (units.molar_gas_constant * units.Quantity(900, units.kelvin))
    reference = energy / (units.molar_gas_constant * units.Quantity(880, units.kelvin))
    expected = 50 * math.exp((exponent - reference).to("dimensionless").magnitude)
    jmak = equation_named("jmak")
    vector = jmak.standardise(
        {"half_time_s": 50.0, "activation_energy_kJ_mol": 180.0, "avrami_exponent": 1.0}
    )
    at = {
        "temperature_K": torch.tensor([900.0], dtype=torch.float64),
        "reference_temperature_K": torch.tensor([880.0], dtype=torch.float64),
        "fraction": torch.tensor([0.5], dtype=torch.float64),
    }
    assert 10 ** float(jmak.predict("ttt", vector, at)) == pytest.approx(expected)


def test_li_integral_agrees_with_an_open_implementation():
    """S(0.001) and S(0.999) as printed in arthursn/transformation-diagrams."""
    assert li_integral(0.001) == pytest.approx(0.02638507, rel=1e-3)
    assert li_integral(0.999) == pytest.approx(2.02537893, rel=1e-4)


def test_li_time_by_hand():
    """AISI 1080, ASTM 7, 820 K: every factor of the equation written out."""
    steel = {"C": 0.8, "Mn": 0.75, "Si": 0.25}
    factor = math.exp(-4.25 + 4.12 * 0.8 + 4.36 * 0.75 + 0.44 * 0.25)
    top = eutectoid_temperature_K(steel)
    assert top == pytest.approx(273.15 + 723 - 10.7 * 0.75 + 29.1 * 0.25)
    speed = 2 ** (0.32 * 7) * (top - 820) ** 3 * math.exp(-27500 * 4.184 / (R * 820))
    grid = np.linspace(0, 0.5, 200_001)[1:-1]
    integral = np.sum(1 / (grid ** (0.4 * (1 - grid)) * (1 - grid) ** (0.4 * grid))) * 2.5e-6
    got = li_time("pearlite", steel, 7.0, top, np.array([820.0]), 0.5)
    assert got[0] == pytest.approx(factor * integral / speed, rel=1e-3)


def test_li_noses_and_steel_temperatures_are_plausible():
    eutectoid = {"C": 0.8, "Mn": 0.75, "Si": 0.25}
    top = eutectoid_temperature_K(eutectoid)
    grid = np.arange(700, top - 5, 1.0)
    start = li_time("pearlite", eutectoid, 7.0, top, grid, 0.01)
    assert 540 < grid[start.argmin()] - 273.15 < 600  # the nose of eutectoid steel, about 550 C
    assert 0.05 < start.min() < 5
    assert 450 < martensite_start_K(eutectoid) < 530
    assert martensite_start_K(eutectoid) < bainite_start_K(eutectoid) < top
    assert set(REACTIONS) == {"ferrite", "pearlite", "bainite"}
    with pytest.raises(ValueError, match="does not form"):
        li_time("pearlite", eutectoid, 7.0, top, np.array([top + 1]), 0.5)


def test_wrong_declarations_and_names_are_refused():
    with pytest.raises(ValueError, match="identity or log"):
        Parameter("a", "", 0.0, 1.0, 0.5, "cube")
    with pytest.raises(ValueError, match="cannot be used"):
        Parameter("a", "", 0.0, 1.0, 0.5, "log")
    with pytest.raises(MatmlError, match="known ones are jmak, c_curve, softening"):
        equation_named("avrami")
    with pytest.raises(MatmlError, match="choose another equation"):
        equation_named("softening").observable("ttt")
