"""Reaching a target: beliefs against closed forms, choices, bad inputs, the command."""

import json

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics import Population
from matml.kinetics.reach.belief import Belief, Spread
from matml.kinetics.reach.furnace import Furnace
from matml.kinetics.reach.policy import next_trial
from matml.kinetics.reach.study import (
    OURS,
    REFERENCE,
    format_policies,
    nearest,
    offset,
    summarise_policies,
)
from matml.kinetics.reach.target import Target

DOUBLE = torch.float64


def belief(curves, spread, kelvin=(600.0, 650.0, 900.0)):
    kelvin = torch.tensor(kelvin, dtype=DOUBLE)
    departures = spread.covariance(kelvin, torch.zeros_like(kelvin))
    return Belief(curves.mean(0), curves, departures, spread.noise, spread)


def test_what_is_expected_after_a_trial_is_that_of_a_joint_normal():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(40_000, 2, generator=generator, dtype=DOUBLE)
    slopes = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.5, 2.0]], dtype=DOUBLE)
    spread = Spread(common=0.5, local=1.0, noise=0.5)
    outlook = belief(normal @ slopes, spread).given([0], [2.0])
    kelvin = torch.tensor([600.0, 650.0, 900.0], dtype=DOUBLE)
    total = slopes.T @ slopes + spread.covariance(kelvin, torch.zeros_like(kelvin))
    gain = total[:, 0] / (total[0, 0] + 0.25)
    expected, variance = 2 * gain, total.diagonal() - gain * total[0] + 0.25
    torch.testing.assert_close(outlook.mean(), expected, rtol=0.03, atol=0.02)
    ends = (1.0 - expected) / variance.sqrt(), (0.0 - expected) / variance.sqrt()
    chance = torch.special.ndtr(ends[0]) - torch.special.ndtr(ends[1])
    torch.testing.assert_close(outlook.chance(0.0, 1.0), chance, rtol=0, atol=0.01)


def test_a_near_prediction_narrows_the_scale_and_a_far_one_widens_it():
    spread = Spread(local=1.0, noise=0.1, scales=(0.1, 10.0), chances=(0.5, 0.5))
    flat = belief(torch.zeros(1, 3, dtype=DOUBLE), spread)
    near, far = (flat.given([0], [value]).weights[:, 0] for value in (0.1, 5.0))
    assert near[0] > 0.8
    assert far[1] > 0.99


def test_outcomes_are_equally_probable():
    spread = Spread(local=1.0, noise=0.5)
    found = belief(torch.zeros(1, 3, dtype=DOUBLE), spread).given([], []).outcomes(1, 5)
    ladder = torch.special.ndtri(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=DOUBLE)) * 1.25**0.5
    assert found == pytest.approx(ladder.tolist(), abs=0.35)
    assert found == sorted(found)


def test_a_trial_that_tells_the_next_one_is_taken_before_a_likelier_hit():
    """One unknown: two settings hit for either sign of it, a third shows the sign and may hit."""
    sign = torch.tensor([-1.0, 1.0], dtype=DOUBLE).repeat(50)
    curves = torch.stack([10 * sign, -10 * sign, 3 * sign, torch.full_like(sign, 3.9)], 1)
    spread = Spread(noise=0.3)
    known = belief(curves, spread, (500.0, 600.0, 700.0, 800.0))
    every = torch.ones(4, dtype=DOUBLE)
    ends = 9.0, 11.0
    greedy = next_trial(known, ([], []), *ends, every, every, look_ahead=False)
    assert float(greedy.chances[greedy.setting]) == pytest.approx(0.5, abs=0.01)
    ahead = next_trial(known, ([], []), *ends, every, every)
    assert ahead.within_two == pytest.approx(1.0, abs=0.01)
    after = next_trial(known, ([0], [-10.0]), *ends, every, every)
    assert after.setting == 1


def test_a_cheap_setting_is_tried_before_a_little_likelier_dear_one():
    curves = torch.tensor([[0.0, 0.2, 5.0]], dtype=DOUBLE)
    known = belief(curves, Spread(local=0.5, noise=0.5))
    every = torch.ones(3, dtype=DOUBLE)
    cost = torch.tensor([10.0, 1.0, 1.0], dtype=DOUBLE)
    assert next_trial(known, ([], []), -1, 1, every, every).setting == 0
    assert next_trial(known, ([], []), -1, 1, every, cost).setting == 1


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("hardness_HRC = 45 +- 1", 44, 46),
        ("hardness_HRC=45±1.5", 43.5, 46.5),
        ("fraction_transformed >= 0.95", 0.95, float("inf")),
        ("hardness_HV = 460 +- 10", 45.3333, 46.9231),
    ],
)
def test_targets_in_any_unit(text, low, high):
    found = Target.of(text)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hardness_HRC 45", "not understood"),
        ("hardness_HRC = 450 +- 10", "hardness_HV"),
        ("hardness_HRC = 45 +- 0", "tolerance 0 is not positive"),
        ("hardness_HV = 9000 +- 10", "outside the Rockwell C scale"),
        ("colour = 3 +- 1", "is not what is measured"),
    ],
)
def test_bad_targets_say_what_to_write(text, told):
    with pytest.raises(MatmlError, match=told):
        Target.of(text)


@pytest.fixture(scope="module")
def alloy():
    frame = pd.DataFrame({"temperature_C": [400.0], "time_h": [1.0], "hardness_HRC": [49.0]})
    composition = {"C": 0.4, "Mn": 0.7}
    return Population.load("tempering").calibrate(frame, composition, judged=False)


def test_an_alloy_says_its_next_trial_and_what_comes_after_a_miss(alloy):
    found = alloy.reach("hardness_HRC = 45 +- 1")
    setting = found.setting
    assert 400 < setting["temperature_C"] < 600
    assert 0.2 < setting["chance"] < setting["chance_within_two"] <= 1
    assert setting["chance"] <= found.settings["chance"].max()
    hotter, colder = (setting[f"chance_if_too_{side}"] for side in ("high", "low"))
    assert hotter > 0.2
    assert colder > 0.2
    assert "within two trials" in repr(found)


def test_little_time_or_energy_is_spent_where_that_is_asked(alloy):
    plain, quick = (alloy.reach("hardness_HRC = 45 +- 2", cost=c) for c in ("trials", "time"))
    hours = (Furnace().between_s + plain.setting["time_s"]) / 3600
    assert quick.setting["cost"] < hours
    frugal = alloy.reach("hardness_HRC = 45 +- 2", cost="energy").setting
    cost = frugal["temperature_C"] - 20
    cost *= Furnace().kWh_per_K + Furnace().kW_per_K * frugal["time_s"] / 3600
    assert frugal["cost"] == pytest.approx(cost)


def test_a_furnace_that_drifts_makes_chances_smaller(alloy):
    still, drifting = (
        alloy.reach("hardness_HRC = 45 +- 1", furnace={"drift_K": d}).settings["chance"].max()
        for d in (0.0, 30.0)
    )
    assert drifting < still


@pytest.mark.parametrize(
    ("target", "furnace", "told"),
    [
        ("hardness_HRC = 65 +- 1", {"lowest_C": 600}, r"no setting reaches it.*the nearest is"),
        ("hardness_HRC = 45 +- 0.1", {}, "less than a measurement scatters"),
        ("hardness_HRC = 45 +- 1", {"lowest_C": 600, "highest_C": 500}, "exchange the two"),
        ("hardness_HRC = 45 +- 1", {"lowest_C": 2000}, "nothing in common"),
        ("fraction_transformed >= 0.95", {}, "the population is of hardness_HRC"),
    ],
)
def test_bad_wishes_say_what_to_do(alloy, target, furnace, told):
    with pytest.raises(MatmlError, match=told):
        alloy.reach(target, furnace=furnace)


def test_an_alloy_outside_and_a_setting_with_another_result_are_told():
    frame = pd.DataFrame(
        {"temperature_C": [400.0, 400.0], "time_h": [1.0, 1.0], "hardness_HRC": [49.0, 40.0]}
    )
    population = Population.load("tempering")
    alloy = population.calibrate(frame, {"C": 0.4}, judged=False)
    notes = " ".join(alloy.reach("hardness_HRC = 45 +- 4").notes)
    assert "gave hardness_HRC 40 (line 3) and 49 (line 2)" in notes
    alloy = population.calibrate(frame[:1], {"C": 0.4, "Cr": 12}, judged=False)
    found = alloy.reach("hardness_HRC = 45 +- 4")
    assert "Cr_wt_pct = 12 is outside the range" in " ".join(found.notes)


def test_a_transformed_fraction_is_reached_by_a_population_without_a_learned_spread(
    fractions_population, simulated
):
    from matml.kinetics.data.observations import read_observations
    from matml.kinetics.reach.setting import reach

    folder = simulated / "jmak"
    everything = read_observations(folder / "observations.csv", folder / "alloys.csv")
    own = everything.select(everything.names[:1])
    found = reach(fractions_population, own.alloys, own, Target.of("fraction_transformed >= 0.95"))
    assert found.setting["expected"] > 0.9
    assert found.setting["chance"] > 0.5


def test_the_command_prints_the_next_trial_and_writes_it(tmp_path):
    points, out = tmp_path / "points.csv", tmp_path / "next.json"
    points.write_text("alloy,temperature_C,time_h,hardness_HRC\nmine,400,1,49\n")
    furnace = tmp_path / "furnace.yaml"
    furnace.write_text("lowest_C: 200\nhighest_C: 650\nlongest_s: 14400\n")
    told = ["--prior", "tempering", "--data", points, "--furnace", furnace, "--json", out]
    told += ["--target", "hardness_HRC = 45 +- 1"]
    done = CliRunner().invoke(cli, ["kinetics", "reach", *map(str, told)])
    assert done.exit_code == 0, done.output
    assert "next: " in done.output
    assert "if too high" in done.output
    record = json.loads(out.read_text())
    assert record["time_s"] <= 14400
    assert 0 < record["chance"] <= 1


def test_policies_are_compared_on_the_same_cases_by_composition_group():
    rows = []
    for case in range(12):
        own = f"steel {case}", f"group {case // 2}", 1, 40.0
        needed = 1 + case % 4
        rows.append((REFERENCE, "trials", *own, needed, 2.0 * needed, 1.0))
        rows.append((OURS, "trials", *own, max(needed - 1, 1), 1.0 * needed, 1.0))
    heads = ["policy", "spares", "alloy", "composition_group", "fold", "target"]
    scores = pd.DataFrame(rows, columns=[*heads, "trials", "hours", "kWh"])
    stated = [(OURS, "trials", 1, 0.5, True), (OURS, "trials", 2, 0.7, False)]
    trials = pd.DataFrame(stated, columns=["policy", "spares", "trial", "stated", "hit"])
    summary = summarise_policies(scores.sample(frac=1, random_state=0), trials, "made", 0)
    found = summary.set_index(["method", "metric"])["value"]
    assert found[OURS, "trials"] == pytest.approx(1.75)
    assert found[OURS, "trials_minus_offset"] == pytest.approx(-0.75)
    assert found[OURS, "hit_within_3"] == 1
    assert found[OURS, "hours_less_than_offset"] == pytest.approx(0.5)
    assert found[OURS, "kWh_less_than_offset"] == pytest.approx(0)
    assert found[OURS, "hits_minus_stated"] == pytest.approx(0.5 - 0.6)
    assert found[REFERENCE, "trials_minus_offset"] == 0
    assert "-0.75 [" in format_policies(summary)


def test_the_simple_rule_moves_the_curve_by_its_mean_error():
    curve = torch.tensor([50.0, 45.0, 40.0], dtype=DOUBLE)
    moved = offset(curve, ([0, 1], [52.0, 48.0]))
    assert moved.tolist() == pytest.approx([52.5, 47.5, 42.5])
    assert nearest(moved.clone(), 47.0, [0])[0] == 1
    assert nearest(moved.clone(), 47.0, [0, 1])[0] == 2
