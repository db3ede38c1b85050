import math
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import solve_ivp

from matml.bayes.mixed_effects import Marginal, effects_at
from matml.cli import main
from matml.core.errors import MatmlError
from matml.core.project import project_root
from matml.studies.patients.compare import (
    CENTRED,
    INDIVIDUAL,
    SCALED,
    next_concentrations,
    relative_errors,
    root_mean_square,
    summarise,
)
from matml.studies.patients.compartments import EQUATIONS
from matml.studies.patients.forecast import choose_dose, forecast, usable_patients
from matml.studies.patients.population import STUDIED, Assumptions, Covariate, Population
from matml.studies.patients.records import read_patients

DATA = project_root() / "data" / "patients"


def columns(elapsed, amount=100.0, duration=0.0, interval=0.0):
    elapsed = torch.as_tensor(elapsed, dtype=torch.float64)[:, None]
    found = {"elapsed": elapsed}
    for name, value in (("amount", amount), ("duration", duration), ("interval", interval)):
        found[name] = torch.full_like(elapsed, value)
    return found


def parameters(equation, **values):
    base = {"CL": 2.0, "V": 10.0, "V1": 10.0, "Q": 3.0, "V2": 20.0, "ka": 0.8} | values
    return torch.tensor([math.log(base[name]) for name in equation.parameters]).double()


GIVEN = [
    (name, duration)
    for name, equation in EQUATIONS.items()
    for duration in (0.0, 2.0)
    # absorbed doses are not infused
    if not (equation.oral and duration)
]


@pytest.mark.parametrize(("name", "duration"), GIVEN)
def test_closed_forms_are_the_solutions_of_the_compartments(name, duration):
    equation = EQUATIONS[name]
    p = dict(zip(equation.parameters, parameters(equation).exp().tolist(), strict=True))
    volume, second = p.get("V", p.get("V1")), p.get("V2", 1.0)
    flow, ka = p.get("Q", 0.0), p.get("ka", 0.0)

    def flows(t, x):
        depot, centre, other = x
        infused = 100 / duration if duration and t < duration else 0.0
        exchange = flow * (centre / volume - other / second)
        taken = ka * depot
        return [-taken, taken + infused - p["CL"] * centre / volume - exchange, exchange]

    start = [100.0, 0, 0] if equation.oral else [0, 0.0 if duration else 100.0, 0]
    times = np.array([0.3, 1.0, 1.9, 4.0, 11.0])
    solved = solve_ivp(flows, (0, 12), start, t_eval=times, rtol=1e-10, atol=1e-12, max_step=0.05)
    z = parameters(equation).expand(len(times), -1)
    found = equation.predict(z, columns(times, duration=duration))
    assert found.numpy() == pytest.approx(solved.y[1] / volume, rel=1e-5)


@pytest.mark.parametrize(("name", "duration"), GIVEN)
def test_steady_state_is_the_sum_of_many_doses(name, duration):
    equation = EQUATIONS[name]
    times = np.array([0.5, 3.0, 7.9, 20.0])
    z = parameters(equation).expand(len(times), -1)
    once = equation.predict(z, columns(times, duration=duration, interval=8.0))
    many = sum(equation.predict(z, columns(times + 8 * k, duration=duration)) for k in range(400))
    torch.testing.assert_close(once, many, rtol=1e-9, atol=0)


def test_absorption_as_fast_as_elimination_is_no_division_by_zero():
    equation = EQUATIONS["one-compartment-oral"]
    times, found = np.array([0.1, 5.0, 30.0]), []
    for ka in (0.2, 0.2 * (1 + 1e-4), 0.2 * (1 - 1e-4)):
        z = parameters(equation, ka=ka).expand(3, -1).clone().requires_grad_()
        value = equation.predict(z, columns(times, interval=6.0))
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert torch.isfinite(slope).all()
        found.append(value.detach())
    torch.testing.assert_close(found[0], (found[1] + found[2]) / 2, rtol=1e-6, atol=0)
    # long after, where exponentials overflow if they are not taken together
    z = parameters(equation, ka=1e-3, CL=1e4).expand(1, -1)
    assert torch.isfinite(equation.predict(z, columns([1e5]))).all()


@pytest.fixture(scope="module")
def neonates():
    return read_patients(DATA / "phenobarbital.csv", bolus=True).patients


@pytest.fixture(scope="module")
def phenobarbital(neonates):
    return Population.learn(neonates, STUDIED["phenobarbital"])


def test_nonmem_has_the_same_likelihood_and_the_same_patients(neonates):
    """pheno.lst, .ext and .phi of pharmpy-core 2.1.1: FOCE with interaction."""
    assumptions = STUDIED["phenobarbital"]
    data = assumptions.data_of(neonates)
    fixed = [math.log(4.69555e-3), math.log(0.984258), math.log(1.158920)]
    random = [math.log(0.171321), math.log(0.167051), math.log(0.115069)]
    effects = effects_at(assumptions.model, torch.tensor(fixed + random).double(), 3)
    marginal = Marginal(assumptions.model, data)
    with torch.no_grad():
        objective = -2 * float(marginal.of_each(effects).sum())
    objective -= float(data.mask.sum()) * math.log(2 * math.pi)
    assert objective == pytest.approx(586.27605628520962, abs=1e-4)
    etas = marginal.mode * torch.tensor([0.171321, 0.167051])
    expected = [[-4.38608e-2, 5.43031e-3], [-1.66321e-1, -1.31833e-1], [9.59341e-2, 1.30868e-1]]
    torch.testing.assert_close(etas[:3], torch.tensor(expected).double(), rtol=1e-3, atol=1e-5)


def test_estimates_and_errors_are_those_of_nonmem(phenobarbital):
    assert phenobarbital.effects.converged
    found = pd.DataFrame(phenobarbital.table()).set_index("quantity")
    nonmem = {
        "CL": (0.00469555, 0.000209967),
        "V": (0.984258, 0.0268946),
        "V~APGAR<5": (1.158920, 0.0837555),
        "proportional noise": (0.115069, 0.00990666),
    }
    for name, (value, error) in nonmem.items():
        assert found["value"][name] == pytest.approx(value, abs=0.02 * error)
        assert found["standard_error"][name] == pytest.approx(error, rel=0.02)
    assert found["variation_percent"][["CL", "V"]].tolist() == pytest.approx(
        [17.1321, 16.7051], rel=0.005
    )


def test_theophylline_has_its_published_kinetics():
    people = read_patients(DATA / "theophylline.csv").patients
    assumptions = replace(STUDIED["theophylline"], noise="constant")
    learned = Population.learn(people, assumptions, with_errors=False)
    clearance, volume, absorption = learned.effects.beta.exp().tolist()
    assert clearance == pytest.approx(0.040, abs=0.001)
    assert volume == pytest.approx(0.46, abs=0.01)
    assert absorption == pytest.approx(1.57, abs=0.08)


def test_the_next_concentration_is_foreseen_with_its_band(neonates):
    table = next_concentrations(neonates, STUDIED["phenobarbital"], shots=(0, 1, 2), folds=2)
    errors = relative_errors(table)
    error = {
        (shots, name): float(root_mean_square(block[name].dropna().to_numpy()))
        for shots, block in errors.groupby(level="shots")
        for name in (CENTRED, INDIVIDUAL, SCALED)
        if block[name].notna().any()
    }
    assert error[0, CENTRED] < 0.24
    assert error[1, CENTRED] < 0.19
    assert error[2, CENTRED] < 0.18
    assert error[1, INDIVIDUAL] < error[0, INDIVIDUAL]
    records = summarise("phenobarbital", table)
    change = next(r for r in records if r["metric"] == "change_of_relative_rmse")
    assert change["value"] == pytest.approx(error[1, CENTRED] - error[1, SCALED])
    assert change["low"] < change["value"] < change["high"]
    own = table[table["method"] == INDIVIDUAL]
    inside = own["measured"].between(own["low"], own["high"])
    assert 0.83 < inside.mean() < 0.96


def test_bands_narrow_with_samples_and_no_sample_gives_the_population(phenobarbital, neonates):
    patient = neonates[0]
    at = [np.array([60.0])]
    bands = [forecast(phenobarbital, [patient.until(k)], at) for k in (0, 1, 2)]
    widths = [float((b["high_90"] - b["low_90"]).iloc[0]) for b in bands]
    assert widths[0] > widths[1] > widths[2]


def test_a_dose_reaches_its_target(phenobarbital, neonates):
    patient = neonates[1].until(1)
    times = {"give_at": 150.0, "measure_at": 151.0}
    found = choose_dose(phenobarbital, patient, (60.0, 80.0), **times)
    assert found.low < 60 < found.median < 80
    assert 0.5 < found.chance < 1
    assert 0 < found.careful < 2 * found.amount
    more = choose_dose(phenobarbital, patient, (120.0, 160.0), **times)
    assert more.amount > found.amount
    # what is there already cannot be taken away
    assert choose_dose(phenobarbital, patient, (0.01, 0.02), **times).chance == 0
    with pytest.raises(MatmlError, match="before the last one given"):
        choose_dose(phenobarbital, patient, (1, 2), give_at=3.0, measure_at=4.0)
    with pytest.raises(MatmlError, match="lower and a higher"):
        choose_dose(phenobarbital, patient, (2, 1), **times)


def test_a_population_comes_back_from_its_file(phenobarbital, neonates, tmp_path):
    phenobarbital.save(tmp_path / "p.json")
    back = Population.load(tmp_path / "p.json")
    assert back.assumptions == phenobarbital.assumptions
    at = [np.array([10.0, 50.0])]
    pd.testing.assert_frame_equal(
        forecast(back, neonates[:1], at), forecast(phenobarbital, neonates[:1], at)
    )
    text = (tmp_path / "p.json").read_text()
    (tmp_path / "p.json").write_text(text.replace("0.11506", "0.21506"))
    with pytest.raises(MatmlError, match="matml study patients learn"):
        Population.load(tmp_path / "p.json")


HEAD = "ID,TIME,AMT,DV,EVID,WT\n"
GOOD = "a,0,100,.,1,70\na,2,.,5,0,70\na,9,.,3,0,70\n"


def written(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TIME,AMT,DV\n0,1,2\n", "needs one column ID"),
        (HEAD + "a,2,100,.,1,70\na,1,.,5,0,70\n", "row 3, TIME '1': is before the row above"),
        (HEAD + GOOD + "b,0,1,.,1,70\na,12,.,5,0,70\n", "row 6, ID 'a': other patients stand"),
        (HEAD + "a,10:30,100,.,1,70\n", "row 2, TIME '10:30': give a number"),
        (HEAD + "a,,100,.,1,70\n", "row 2, TIME ''"),
        (HEAD + "a,0,-1,.,1,70\n", "row 2, AMT '-1': give a number of at least 0"),
        (HEAD + "a,0,.,.,1,70\n", "row 2, AMT '.'|row 2, AMT ''"),
        (HEAD + "a,0,5,3,0,70\n", "row 2, AMT '5': the row is no dose"),
        (HEAD + "a,0,5,.,4,70\n", "row 2, EVID '4': must be 0, 1 or 2"),
        ("ID,TIME,AMT,DV\na,0,100,3\n", "row 2, DV '3': a dose and a sample in one row"),
        ("ID,TIME,AMT,DV,SS\na,0,100,.,1\n", "row 2, II '': ADDL and SS repeat the dose"),
    ],
)
def test_doubtful_histories_are_refused_with_row_and_remedy(tmp_path, text, said):
    with pytest.raises(MatmlError, match=said):
        read_patients(written(tmp_path, text), bolus=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b,0,.,5,0,70\nb,1,100,.,1,70\nb,2,.,5,0,70\n", "no dose before it"),
        ("b,0,100,.,1,70\nb,0,.,5,0,70\nb,2,.,5,0,70\n", "a dose at the same time jumps"),
        ("b,0,100,.,1,70\nb,2,.,<0.5,0,70\nb,3,.,5,0,70\n", "below the limit"),
        ("b,0,100,.,1,70\nb,2,.,0,0,70\nb,3,.,5,0,70\n", "not positive"),
        ("b,0,100,.,1,70\nb,2,.,high,0,70\nb,3,.,5,0,70\n", "no number"),
    ],
)
def test_samples_that_say_nothing_are_set_aside_with_row_and_remedy(tmp_path, row, reason):
    found = read_patients(written(tmp_path, HEAD + GOOD + row), bolus=True)
    assert [len(patient.times) for patient in found.patients] == [2, 1]
    assert found.aside["reason"].tolist() == [next(r for r in found.aside["reason"] if reason in r)]
    assert found.aside["row"].iloc[0] in (5, 6)
    assert found.aside["remedy"].iloc[0]


def test_a_patient_in_another_unit_is_set_aside(tmp_path, phenobarbital, neonates):
    people = "".join(
        f"p{i},0,100,.,1,70\np{i},2,.,{5000 if i == 3 else 5},0,70\n" for i in range(5)
    )
    found = read_patients(written(tmp_path, HEAD + people), bolus=True)
    assert [patient.name for patient in found.patients] == ["p0", "p1", "p2", "p4"]
    assert found.aside["id"].tolist() == ["p3"]
    assert "mg for micrograms" in found.aside["remedy"].iloc[0]
    # a single patient is held against the population
    odd = neonates[0].until(1)
    odd.concentrations = odd.concentrations * 1000
    good, aside = usable_patients(phenobarbital, [odd])
    assert not good
    assert "times those of others" in aside[0]["reason"]


def test_a_sample_drawn_before_a_dose_at_its_time_is_kept(tmp_path):
    text = HEAD + "a,0,100,.,1,70\na,8,.,5,0,70\na,8,100,.,1,70\na,16,.,6,0,70\n"
    found = read_patients(written(tmp_path, text), bolus=True)
    assert found.patients[0].times.tolist() == [8, 16]
    data = Assumptions("one-compartment").data_of(found.patients)
    # the second dose does not count for the first sample
    assert (data.columns["elapsed"][0] > 0).sum(1).tolist() == [1, 2]


def test_steady_state_starts_anew_and_additional_doses_repeat(tmp_path):
    text = (
        "ID,TIME,AMT,DV,EVID,SS,II,ADDL\n"
        "a,0,100,.,1,0,0,0\na,5,.,3,0,0,0,0\na,48,100,.,1,1,8,1\na,60,.,6,0,0,0,0\n"
    )
    [patient] = read_patients(written(tmp_path, text)).patients
    assert patient.doses[:, [0, 3]].tolist() == [[0, 0], [48, 8], [56, 0]]
    data = Assumptions("one-compartment-oral").data_of([patient])
    assert (data.columns["elapsed"][0] > 0).tolist() == [[True, False, False], [False, True, True]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Covariate.of("V<3"), "write PARAMETER~COLUMN"),
        (lambda: Assumptions("three-compartments"), "must be one of one-compartment"),
        (lambda: Assumptions("one-compartment", fixed=("ka",)), "'ka': one-compartment has CL, V"),
        (lambda: Assumptions("one-compartment", fixed=("CL", "V")), "let at least one vary"),
    ],
)
def test_assumptions_that_cannot_be_are_refused(make, said):
    with pytest.raises(MatmlError, match=said):
        make()


def test_a_covariate_that_all_share_is_refused(neonates):
    assumptions = Assumptions("one-compartment", covariates=(Covariate.of("V~WT<100"),))
    with pytest.raises(MatmlError, match="is 1 for all patients"):
        Population.learn(neonates, assumptions)


def test_learn_forecast_and_dose_on_the_command_line(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["matml", "study", "patients", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    rows = (DATA / "phenobarbital.csv").read_text().splitlines()
    small = [row for row in rows[1:] if int(row.split(",")[0]) <= 4]
    small += ["text id,0,25,.,1,,7", "text id,2,.,17,0,,7"]
    data = written(tmp_path, "\n".join([rows[0], *small]))
    out = tmp_path / "out"
    options = ("--equation", "one-compartment", "--weight", "CL=1", "--weight", "V=1")
    code, told, error = run("learn", "--data", data, *options, "--out", out)
    assert code == 0, error
    assert "4 patients" in told
    assert "WT of the patient" in told
    assert told.endswith("Not for clinical use.\n")
    aside = pd.read_csv(out / "set_aside.csv")
    assert aside["id"].tolist() == ["text id"]
    population = ("--population", out / "population.json")
    code, told, error = run("forecast", "--data", data, *population, "--out", out)
    assert code == 0, error
    assert told.endswith("Not for clinical use.\n")
    assert len(pd.read_csv(out / "forecast.csv")["id"].unique()) == 4
    assert (out / "forecast.png").stat().st_size > 10_000
    times = ("--target", 20, 30, "--give-at", 200, "--measure-at", 212)
    code, told, error = run("dose", "--data", data, *population, "--id", "3", *times)
    assert code == 0, error
    assert "with a chance of" in told
    assert told.endswith("Not for clinical use.\n")
    code, _, error = run("dose", "--data", data, *population, "--id", "none", *times)
    assert code == 2
    assert "give one of the patients" in error
