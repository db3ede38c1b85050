"""Ask which crystals to label next, tell what came out, under constraints and costs."""

import json
import logging
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure
from scipy.integrate import quad
from scipy.stats import norm

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.gp.joint import JointProcess
from matml.gp.kernels import JITTER
from matml.properties import FewShotPredictor
from matml.properties.methods.joint import JointPool
from matml.screening import LabelNext
from matml.screening.acquire.acquisition import acquisition, choose_batch
from matml.screening.acquire.constraints import allowed_rows

SIZE, NOISE = 16, 0.01


def conditioned(mean, covariance, rows, labels):
    """Mean and deviation of further noisy values, given some of a normal vector's (textbook)."""
    inner = covariance[np.ix_(rows, rows)] + (NOISE + JITTER) * np.eye(len(rows))
    gain = covariance[:, rows] @ np.linalg.inv(inner)
    variance = covariance.diagonal() - np.einsum("ij,ji->i", gain, covariance[rows])
    return mean + gain @ (labels - mean[rows]), np.sqrt(variance + NOISE)


def log_expected_improvement(mean, deviation, best):
    """By quadrature of the tail above the best label, [n]."""
    found = []
    for m, s in zip(mean, deviation, strict=True):
        first = norm.logsf(z := (best - m) / s)
        area, _ = quad(lambda t, z=z, first=first: np.exp(norm.logsf(z + t) - first), 0, np.inf)
        found.append(np.log(s * area) + first)
    return np.array(found)


@pytest.mark.parametrize("seed", range(6))
def test_a_batch_under_a_budget_is_that_of_a_hand_made_loop(seed):
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(SIZE, SIZE))
    mean, covariance = generator.normal(size=SIZE), root @ root.T / SIZE
    pool = JointPool(
        JointProcess(torch.from_numpy(mean), NOISE + JITTER, torch.from_numpy(covariance)), NOISE
    )
    costs, budget = generator.uniform(0.5, 4, SIZE), 6.0
    rows, labels = [0, 5], generator.normal(size=2)
    allowed = [row for row in range(SIZE) if row % 4]
    chosen = choose_batch("improvement", pool, rows, labels, 5, allowed, costs=costs, budget=budget)
    wanted, spent = [], 0.0
    while len(wanted) < 5:
        level, deviation = conditioned(mean, covariance, rows, labels)
        gain = log_expected_improvement(level, deviation, labels.max()) - np.log(costs)
        left = [r for r in allowed if r not in rows and costs[r] <= budget - spent]
        if not left:
            break
        best = max(left, key=lambda row: gain[row])
        wanted.append(best)
        spent += costs[best]
        rows, labels = [*rows, best], np.append(labels, level[best])
    assert chosen == wanted
    assert costs[chosen].sum() <= budget


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_that_of_botorch(seed):
    """One Gaussian process in two libraries: the same values of the same batch."""
    with warnings.catch_warnings():
        # raised inside torch while gpytorch is imported
        warnings.simplefilter("ignore", DeprecationWarning)
        from botorch.acquisition.analytic import LogExpectedImprovement
        from botorch.models import SingleTaskGP
        from gpytorch.kernels import RBFKernel

    class OfLabels(SingleTaskGP):
        """Ours is the improvement of a further label, noise and all."""

        def posterior(self, X, **options):
            noise = torch.full((*X.shape[:-1], 1), NOISE, dtype=X.dtype)
            return super().posterior(X, observation_noise=noise, **options)

    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(SIZE, 2, dtype=torch.float64, generator=generator)
    labels = 2 * torch.randn(3, dtype=torch.float64, generator=generator)
    kernel = RBFKernel().double()
    kernel.lengthscale = 0.3
    covariance = kernel(points).to_dense().detach()
    prior = JointProcess(torch.zeros(SIZE, dtype=torch.float64), NOISE + JITTER, covariance)
    pool, rows = JointPool(prior, NOISE), [0, 1, 2]
    chosen = choose_batch("improvement", pool, rows, labels.numpy(), 4)
    for row in chosen:
        noise = torch.full((len(rows), 1), NOISE + JITTER, dtype=torch.float64)
        given = points[rows], labels[:, None], noise
        model = OfLabels(*given, covar_module=kernel, outcome_transform=None)
        model.eval().mean_module.constant.data.zero_()
        theirs = LogExpectedImprovement(model, best_f=labels.max())(points[:, None]).detach()
        theirs[rows] = -torch.inf
        assert int(theirs.argmax()) == row
        ours = acquisition("improvement", pool, rows, labels.numpy())
        left = theirs.isfinite().numpy()
        np.testing.assert_allclose(ours[left], theirs[left], rtol=0, atol=1e-9)
        rows = [*rows, row]
        labels = torch.cat([labels, model.posterior(points[[row]]).mean[0].detach()])


def test_a_budget_that_costs_fill_exactly_is_used_up():
    prior = JointProcess(torch.zeros(5).double(), NOISE, torch.eye(5).double())
    pool = JointPool(prior, NOISE)
    costs = np.full(5, 0.1)
    assert len(choose_batch("improvement", pool, [0], [0.0], 5, costs=costs, budget=0.3)) == 3


def test_elements_and_prices_decide_what_may_be_labelled():
    formulas = ["NaCl", "PbS", "Mg2Si", "CdTe", "MgO"]
    assert allowed_rows(formulas, without={"Pb", "Cd"}).tolist() == [1, 0, 1, 0, 1]
    assert allowed_rows(formulas, only={"Mg", "O", "Si"}).tolist() == [0, 0, 1, 0, 1]
    prices = {"Na": 3.0, "Cl": 0.2, "Mg": 2.5, "Si": 1.7, "O": 0.1}
    cheap = allowed_rows(formulas, (), {"Pb", "Cd"}, prices, 2.0)
    # 48.6 of 76.7 g/mol of Mg2Si are Mg: 2.2 by kg
    assert cheap.tolist() == [1, 0, 0, 0, 1]
    for bad, said in (
        ({"without": {"lead"}}, "'lead' is no element"),
        ({"only": "Mg"}, r"'Mg' is one text; give a set of symbols, \{'Mg'\}"),
        ({"prices": prices}, "prices: Pb, S of PbS has none"),
    ):
        with pytest.raises(MatmlError, match=said):
            allowed_rows(formulas, **bad)


SALTS = {
    "LiF": 4.03, "NaCl": 5.64, "KBr": 6.60, "MgO": 4.21, "CaO": 4.81, "SrO": 5.16,
    "PbS": 5.94, "CdO": 4.70, "NaF": 4.62, "KCl": 6.29,
}  # fmt: skip
LABELS = {"NaCl": 24.0, "KBr": 15.0, "CaO": 105.0}


@pytest.fixture(scope="module")
def salts():
    return {
        name: Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(a), re.findall("[A-Z][a-z]?", name), [[0] * 3, [0.5] * 3]
        )
        for name, a in SALTS.items()
    }


@pytest.fixture(scope="module")
def predictor():
    return FewShotPredictor.load()


def test_what_is_told_is_learned_and_not_asked_again(salts, predictor):
    costs = pd.Series(1.0, index=list(salts)).drop("MgO")
    costs["MgO"] = 50.0
    campaign = LabelNext(
        salts,
        "bulk_modulus_GPa",
        model=predictor,
        strategy="mean",
        without_elements={"Pb", "Cd"},
        costs=costs,
    )
    campaign.tell(list(LABELS), list(LABELS.values()))
    batch = campaign.ask(20, budget=10.0)
    assert set(batch["id"]) == set(salts) - set(LABELS) - {"PbS", "CdO", "MgO"}
    assert batch["bulk_modulus_GPa"].is_monotonic_decreasing
    assert campaign.ask(20)["id"].iloc[0] == "MgO"
    named = LabelNext(salts, "bulk_modulus_GPa", model=predictor, costs=dict(costs))
    assert named.costs.tolist() == campaign.costs.tolist()
    with pytest.raises(MatmlError, match="costs: nan of KCl"):
        LabelNext(salts, "bulk_modulus_GPa", model=predictor, costs=dict(costs.drop("KCl")))
    # the numbers are those of the predictor itself
    adapted = predictor.adapt(
        [salts[name] for name in LABELS], list(LABELS.values()), "bulk_modulus_GPa"
    )
    mean, interval = adapted.predict([salts[name] for name in batch["id"]])
    np.testing.assert_allclose(batch["bulk_modulus_GPa"], mean, rtol=2e-3)
    np.testing.assert_allclose(
        batch["bulk_modulus_GPa_low"], np.asarray(interval)[..., 0], rtol=0.02
    )
    before = batch.set_index("id").loc["SrO", "bulk_modulus_GPa"]
    campaign.tell(["SrO"], [87.0])
    after = campaign.ask(20)
    assert "SrO" not in set(after["id"])
    assert before != 87.0
    assert "4 labels of 10 crystals, 8 allowed" in repr(campaign)


def test_what_cannot_be_told_or_asked_is_named(salts, predictor):
    campaign = LabelNext(salts, "bulk_modulus_GPa", model=predictor)
    for ids, values, said in (
        (["XeF"], [3.0], "'XeF' is none of the 10 structures' ids"),
        (["NaF", "NaF"], [3.0, 4.0], "'NaF' is told twice at once"),
        (["NaF"], [-3.0], "NaF.*-3"),
        (["NaF"], [1.0, 2.0], "2"),
    ):
        with pytest.raises(MatmlError, match=said):
            campaign.tell(ids, values)
    assert not campaign.labels
    for options, said in (
        ({"goal": "more"}, "goal: 'more'"),
        ({"strategy": "best"}, "strategy: 'best'"),
        ({"only_elements": {"Xe"}}, "none of the 10 structures is left"),
        ({"costs": [0.0] * 10}, "costs: 0 of LiF; give positive numbers"),
        ({"most_price": 3}, "most_price: 3 needs prices"),
        ({"prices": {"Li": -1.0}}, "prices: -1.0 of Li; give a number from 0 on"),
        ({"prices": "prices.csv"}, "prices: 'prices.csv' is no mapping"),
    ):
        with pytest.raises(MatmlError, match=said):
            LabelNext(salts, "bulk_modulus_GPa", model=predictor, **options)


def test_the_command_leaves_elements_out(salts, tmp_path):
    for name, salt in salts.items():
        salt.to(filename=str(tmp_path / f"{name}.cif"))
    line = ["screen", "suggest", "--property", "bulk_modulus_GPa", "--goal", "maximise"]
    line += ["--candidates", str(tmp_path), "--number", "20", "--out", str(tmp_path / "next.csv")]
    done = CliRunner().invoke(cli, [*line, "--without-elements", "Pb, Cd"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = read_table(tmp_path / "next.csv")
    assert len(found) == 8
    assert not found["formula"].str.contains("Pb|Cd").any()
    with pytest.raises(MatmlError, match=r"of 10 none is left"):
        CliRunner().invoke(cli, [*line, "--only-elements", "Xe"], catch_exceptions=False)


def test_a_shortlist_s_candidates_are_priced_by_their_own_ids(salts, tmp_path, caplog):
    """And the document of `--json` says what was done."""
    caplog.set_level(logging.INFO)
    crystals = tmp_path / "screening/candidates"
    crystals.mkdir(parents=True)
    lines = [f"{place},mine/{name},{place}_{name}.cif" for place, name in enumerate(salts, 1)]
    (tmp_path / "screening/shortlist.csv").write_text("\n".join(["rank,id,cif", *lines]))
    for place, (name, salt) in enumerate(salts.items(), 1):
        salt.to(filename=str(crystals / f"{place}_{name}.cif"))
    costs, out = tmp_path / "costs.csv", tmp_path / "next.csv"
    costs.write_text("id,cost\n" + "".join(f"mine/{name},{len(name)}\n" for name in salts))
    line = ["screen", "suggest", "--property", "bulk_modulus_GPa", "--goal", "maximise"]
    line += ["--candidates", str(tmp_path / "screening"), "--number", "3", "--costs", str(costs)]
    done = CliRunner().invoke(cli, [*line, "--out", str(out), "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    found = pd.DataFrame(document["files"][str(out)])
    assert all(name.startswith("mine/") for name in found["id"])
    assert found["cost"].tolist() == [len(name.removeprefix("mine/")) for name in found["id"]]
    assert all((crystals / name).is_file() for name in found["file"])
    assert any("3 of 10 candidates to label next" in said for said in document["said"])


def test_the_command_heeds_prices_and_costs(salts, tmp_path):
    for name, salt in salts.items():
        salt.to(filename=str(tmp_path / f"{name}.cif"))
    prices, costs, out = (tmp_path / f"{name}.csv" for name in ("prices", "costs", "next"))
    line = ["screen", "suggest", "--property", "bulk_modulus_GPa", "--goal", "maximise"]
    line += ["--candidates", str(tmp_path), "--number", "20", "--out", str(out)]

    def suggest(*options):
        done = CliRunner().invoke(cli, [*line, *map(str, options)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return read_table(out)

    cheap = {"Li": 60, "Na": 3, "K": 12, "Mg": 2, "Ca": 5, "Sr": 6, "F": 2, "Cl": 1, "O": 0.1}
    elements = {**cheap, "Br": 4, "S": 1, "Pb": 2, "Cd": 3}
    prices.write_text("element;price_per_kg\n" + "".join(f"{e};{p}\n" for e, p in elements.items()))
    # 6.9 of 25.9 g/mol of LiF are Li: 17.5 by kg; 39.1 of 74.6 of KCl are K: 6.8; of KBr 6.6
    found = suggest("--prices", prices, "--most-price", 6)
    assert set(salts) - {"LiF", "KCl", "KBr"} == set(found["formula"])
    ids = sorted(found["id"])
    costs.write_text("id,cost\n" + "".join(f"{name},{5 if 'MgO' in name else 2}\n" for name in ids))
    found = suggest("--costs", costs, "--prices", prices, "--most-price", 6, "--budget", 9)
    assert found["cost"].sum() <= 9
    assert set(found["cost"]) <= {2, 5}
    assert len(found) >= 3
    with pytest.raises(MatmlError, match="--budget 1: the cheapest label costs 2"):
        suggest("--costs", costs, "--prices", prices, "--most-price", 6, "--budget", 1)
    for text, options, said in (
        ("element,price_per_kg\nMg,2\nMg,3\n", ("--prices", prices), "line 3: 'Mg' is there twice"),
        ("element,price_per_kg\nMagnesium,2\n", ("--prices", prices), "'Magnesium' is no element"),
        ("element,price_per_kg\nMg,cheap\n", ("--prices", prices), "line 2: .*'cheap' of 'Mg'"),
        ("element,euro\nMg,2\n", ("--prices", prices), "no column 'price_per_kg' among"),
        ("id,cost\nx,2\n", ("--costs", prices), "10 of the candidates have no cost, the first"),
        ("", ("--budget", 3), "--budget 3: needs --costs FILE"),
        ("", ("--prices", prices), "--prices FILE and --most-price NUMBER: give both"),
    ):
        prices.write_text(text)
        limits = ("--most-price", 6) if "--prices" in options and text else ()
        with pytest.raises(MatmlError, match=said):
            suggest(*options, *limits)


def test_a_column_of_ones_own_is_an_input(salts, predictor):
    """Synthetic: labels that are a line in the column."""
    column = pd.Series(np.linspace(1, 3, len(salts)), index=list(salts))
    told, rest = column[::2], column[1::2]
    campaign = LabelNext(salts, "T_K", model=predictor, strategy="mean", inputs={"x": column[::-1]})
    campaign.tell(told.index, 100 * told)
    batch = campaign.ask(2).set_index("id")
    assert set(batch.index) == set(rest.nlargest(2).index)
    np.testing.assert_allclose(batch["T_K"], 100 * column[batch.index], rtol=0.03)
    with pytest.raises(MatmlError, match="serve properties that the model does not know"):
        LabelNext(salts, "bulk_modulus_GPa", model=predictor, inputs={"x": column})
