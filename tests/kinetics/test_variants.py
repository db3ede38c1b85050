"""Relatives of JMAK, other processes, and temperature histories, against independent answers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from matml.core.errors import MatmlError
from matml.kinetics.data.additivity import consumed, fraction_along, scheil_temperature
from matml.kinetics.equations import EQUATIONS, Parameter, equation_named
from matml.kinetics.equations.martensite import martensite_fraction, van_bohemen_rate
from matml.kinetics.equations.steels import kirkaldy_integral, li_integral, li_time

R = 8.31446261815324
VARIANTS = ["jmak", "austin_rickett", "impingement", "jmak_incubation", "jmak_incomplete"]


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def columns(time_s=None, fraction=None):
    given = {"temperature_K": double(900.0), "reference_temperature_K": double(900.0)}
    if time_s is not None:
        given["time_s"] = double(time_s)
    if fraction is not None:
        given["fraction"] = double(fraction)
    return given


def at(name, **changed):
    """Standardised vector of an equation's generic start with some values changed."""
    equation = equation_named(name)
    values = {p.name: p.start for p in equation.parameters} | changed
    return equation, equation.standardise(values)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.5, 0.85])
def test_time_and_fraction_are_inverse_and_the_half_time_is_one(name, fraction):
    equation, vector = at(name)
    log10 = equation.predict("ttt", vector, columns(fraction=fraction))
    back = equation.predict("fraction", vector, columns(time_s=10 ** float(log10)))
    assert float(back) == pytest.approx(fraction, abs=1e-9)
    half = float(equation.values(vector).get("final_fraction", double(1.0))) / 2
    value = equation.predict("fraction", vector, columns(time_s=100.0))
    assert float(value) == pytest.approx(half, abs=1e-12)


def test_impingement_has_austin_rickett_and_jmak_at_its_ends():
    exponent, time = 1.7, 260.0
    extended = (time / 100.0) ** exponent  # of Austin and Rickett: 1 at the half time
    equation, vector = at("austin_rickett", avrami_exponent=exponent)
    value = float(equation.predict("fraction", vector, columns(time_s=time)))
    assert value == pytest.approx(extended / (1 + extended))
    equation, one = at("impingement", avrami_exponent=exponent, impingement_exponent=1.0)
    assert float(equation.predict("fraction", one, columns(time_s=time))) == pytest.approx(value)
    equation, large = at("impingement", avrami_exponent=exponent, impingement_exponent=1e7)
    jmak = 1 - math.exp(-math.log(2) * extended)
    assert float(equation.predict("fraction", large, columns(time_s=time))) == pytest.approx(jmak)


def test_incubation_and_final_fraction():
    equation, vector = at("jmak_incubation", incubation_share=0.4, avrami_exponent=2.0)
    assert float(equation.predict("fraction", vector, columns(time_s=39.0))) < 1e-9
    later = 1 - math.exp(-math.log(2) * (30 / 60) ** 2)
    value = float(equation.predict("fraction", vector, columns(time_s=70.0)))
    assert value == pytest.approx(later)
    equation, vector = at("jmak_incomplete", final_fraction=0.8)
    assert float(equation.predict("fraction", vector, columns(time_s=1e9))) == pytest.approx(0.8)
    assert np.isfinite(float(equation.predict("ttt", vector, columns(fraction=0.95))))


@pytest.mark.parametrize("name", VARIANTS[1:])
@pytest.mark.parametrize("kind", ["fraction", "ttt"])
def test_gradients_of_variants_agree_with_finite_differences(name, kind):
    equation, vector = at(name)
    given = columns(time_s=130.0) if kind == "fraction" else columns(fraction=0.4)
    vector = vector.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: equation.predict(kind, z, given), (vector,))


def test_logit_parameters_stay_between_zero_and_one():
    share = Parameter("share", "", 0.1, 0.9, 0.5, "logit")
    assert float(share.value(double(0.0))) == pytest.approx(0.5)
    assert float(share.value(double(share.standardise(0.73)))) == pytest.approx(0.73)
    assert 0 < float(share.value(double(-15.0))) < float(share.value(double(15.0))) < 1
    with pytest.raises(ValueError, match="cannot be used"):
        Parameter("share", "", 0.1, 1.0, 0.5, "logit")


def test_koistinen_marburger_and_van_bohemen():
    # ninety percent martensite 209 K below Ms: ln 10 / 0.011
    assert martensite_fraction(np.array([500.0 - 209.3]), 500.0) == pytest.approx(0.9, abs=2e-4)
    assert martensite_fraction(np.array([501.0]), 500.0) == 0
    steel = {"C": 0.46, "Mn": 0.71, "Si": 0.26, "Cr": 0.2}
    by_hand = 27.2 - (0.0994 + 0.0546 + 0.022) - 19.8 * (1 - 0.4879)
    assert van_bohemen_rate(steel) == pytest.approx(by_hand * 1e-3, rel=1e-3)
    assert 0.01 < van_bohemen_rate({"C": 0.8}) < van_bohemen_rate({"C": 0.1}) < 0.03


def test_kirkaldys_integral_and_time():
    direct = quad(lambda x: x ** (-2 * (1 - x) / 3) * (1 - x) ** (-2 * x / 3), 0, 0.5, limit=200)[0]
    assert kirkaldy_integral(0.5) == pytest.approx(direct, rel=1e-6)
    assert kirkaldy_integral(0.01) > li_integral(0.01)
    arguments = "pearlite", {"C": 0.8, "Mn": 0.7}, 7.0, 996.0, np.array([850.0]), 0.5
    ratio = li_time(*arguments, integral="kirkaldy") / li_time(*arguments)
    assert ratio == pytest.approx(kirkaldy_integral(0.5) / li_integral(0.5))


def fraction_by_solver(
    rate: Callable[[float, float], float], time_s: np.ndarray, start: float = 1e-9
) -> np.ndarray:
    """Return the fraction along a history where df/dt = rate(time, f), [N].

    By scipy's LSODA: holds for reactions that are not additive, too.
    """
    found = solve_ivp(
        lambda t, f: [rate(t, float(np.clip(f[0], start, 1 - 1e-12)))],
        (float(time_s[0]), float(time_s[-1])),
        [start],
        t_eval=time_s,
        method="LSODA",
        rtol=1e-8,
        atol=1e-10,
    )
    if not found.success:
        raise RuntimeError(f"the solver stopped at {found.t[-1]:.6g} s: {found.message}")
    return found.y[0]


def cooling(exponent=2.5):
    """Times, ln t50 and exponent of a continuous cooling through a nose."""
    time = torch.linspace(0, 400, 4001, dtype=torch.float64)
    temperature = 1000 - time
    return time, 3.0 + ((temperature - 800) / 60).square() / 2, exponent


def test_additivity_is_exact_for_a_constant_exponent():
    time, log_half, exponent = cooling()
    fraction = fraction_along(time, log_half, double(exponent)[0])

    def rate(t, f):
        half = math.exp(3.0 + ((1000 - t - 800) / 60) ** 2 / 2)
        grown = -math.log1p(-f) / math.log(2)
        return exponent * math.log(2) * (1 - f) * grown ** (1 - 1 / exponent) / half

    # the rate form is singular at f = 0: the solver starts from the exact fraction a little later
    first = int((fraction > 1e-4).nonzero()[0])
    solved = fraction_by_solver(rate, time[first:].numpy(), start=float(fraction[first]))
    np.testing.assert_allclose(fraction[first:].numpy(), solved, atol=2e-6)
    assert float(fraction[0]) == 0
    isothermal = fraction_along(time, torch.full_like(time, math.log(50.0)), 2.0)
    expected = 1 - np.exp(-math.log(2) * (time.numpy() / 50) ** 2)
    np.testing.assert_allclose(isothermal.numpy(), expected, atol=1e-12)


def test_consumed_time_is_the_integral_and_differentiable_in_batches():
    time, log_half, _ = cooling()
    exact = quad(lambda t: math.exp(-3.0 - ((200 - t) / 60) ** 2 / 2), 0, 400, limit=200)[0]
    assert float(consumed(time, log_half)[-1]) == pytest.approx(exact, rel=1e-6)
    few = time[::400]
    batch = torch.stack([log_half[::400], log_half[::400] + 1]).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda half: fraction_along(few, half, double(2.0, 1.5)), (batch,)
    )


def test_scheil_line_by_hand_and_by_brute_force():
    # a time to the fraction that is the same at all temperatures: reached after just that time
    rates = double(0.5, 2.0, 100.0)
    time, at_K = scheil_temperature(
        rates, 1000.0, 700.0, lambda t: torch.full_like(t, math.log(60))
    )
    np.testing.assert_allclose(time[:2].numpy(), [60, 60], rtol=1e-6)
    np.testing.assert_allclose(at_K[:2].numpy(), [970, 880], rtol=1e-6)
    assert torch.isnan(at_K[2])  # cooled too fast: 300 K take 3 s

    def log_time(temperature):
        return 3.0 + ((temperature - 850) / 60).square() / 2

    (time, at_K) = scheil_temperature(double(1.0), 1000.0, 600.0, log_time)
    steps = np.linspace(0, 400, 400_001)
    total = np.cumsum(np.exp(-log_time(torch.from_numpy(1000 - steps)).numpy())) * 1e-3
    assert float(time) == pytest.approx(steps[(total >= 1).argmax()], abs=0.01)
    batch = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    times, _ = scheil_temperature(
        double(1.0, 0.1), 1000.0, 600.0, lambda t: batch + log_time(t)[None]
    )
    assert times.shape == (2, 2)
    assert float(times[0, 0]) == pytest.approx(float(time))
    assert (times[1] > times[0]).all()
    # never before the isothermal time at the nose
    assert float(time) > math.exp(3.0)
    with pytest.raises(ValueError, match="positive rates"):
        scheil_temperature(double(-1.0), 1000.0, 600.0, log_time)


USER_EQUATION = """
from matml.kinetics.equations import Equation, Input, Observable, Parameter

def log10_time(values, inputs):
    return values["intercept"] + 1000 * values["slope"] / inputs["temperature_K"]

EQUATION = Equation("mine", "Straight Arrhenius line", "own", (
    Parameter("intercept", "log10 s", -20, 0, -10), Parameter("slope", "kK", 2, 30, 12, "log")),
    {"ttt": Observable("time_s", "log10 s", (Input("temperature_K", "K"),), log10_time,
                       lambda measured: measured.log10(), 0.1)})
"""


def test_a_users_own_equation_is_read_from_its_file(tmp_path):
    from matml.kinetics.data.observations import read_observations
    from matml.kinetics.inference.calibrate import calibrate
    from matml.kinetics.inference.population import Population, learn_population

    path = tmp_path / "mine.py"
    path.write_text(USER_EQUATION)
    assert len(USER_EQUATION.strip().splitlines()) <= 10
    equation = equation_named(str(path))
    generator = np.random.default_rng(0)
    lines = ["alloy,temperature_K,time_s,ttt_fraction"]
    truth = {}
    for i in range(8):
        intercept, slope = generator.normal(-9, 0.5), 12 * math.exp(generator.normal(0, 0.1))
        truth[f"A{i}"] = slope
        for temperature in np.linspace(800, 1000, 6):
            log10 = intercept + 1000 * slope / temperature + generator.normal(0, 0.05)
            lines.append(f"A{i},{temperature},{10**log10},0.5")
    data = tmp_path / "points.csv"
    data.write_text("\n".join(lines))
    observations = read_observations(data)
    population, _ = learn_population(observations, equation, 2.0, 0, held_out=["A0"], origin=data)
    population.save(tmp_path / "population.json")
    again = Population.load(tmp_path / "population.json")
    table = calibrate(again, observations, "A0", 0).parameters().set_index("parameter")
    assert table.loc["slope", "low_90"] < truth["A0"] < table.loc["slope", "high_90"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no EQUATION"),
        ("raise RuntimeError('no')", "cannot be run .RuntimeError: no"),
        (None, "no such file"),
    ],
)
def test_a_file_without_an_equation_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MatmlError, match=message):
        equation_named(str(path))
    assert "mine" not in EQUATIONS
