"""The study of prices on the real returns, and what is refused of a user's prices."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.bayes.tasks import linearise
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.screening.data.prices import POPULATION_VOLATILITY
from matml.studies.prices import policy, study
from matml.studies.prices.learners import residual
from matml.studies.prices.returns import read_prices, shipped_returns
from matml.studies.prices.volatility import columns, cut_windows, garch, quasi_likelihood


@pytest.fixture(scope="module")
def part() -> pd.DataFrame:
    """Scores of all methods on one fold of assets from 2000 on."""
    return study.volatility(60, 0, [(2, 0)])


def test_the_returns_are_those_of_23_assets():
    returns = shipped_returns()
    assert returns.shape[1] == 23
    assert returns.index.is_monotonic_increasing
    assert 0.008 < returns["gold"].std() < 0.015
    # whole hundredths of a percent
    np.testing.assert_allclose((returns * 1e4).round(), returns * 1e4, atol=1e-9)


def test_the_volatility_of_raw_materials_is_that_of_the_data():
    squares = shipped_returns()[["crude", "gold", "silver"]] ** 2
    found = np.sqrt(study.PER_YEAR * squares.mean().mean())
    assert found == pytest.approx(POPULATION_VOLATILITY, abs=0.005)


def test_the_deviance_residual_is_the_likelihood_of_a_garch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    squares = torch.rand(3, 7, generator=generator, dtype=torch.float64) + 0.01
    z = 0.3 * torch.randn(3, 5, generator=generator, dtype=torch.float64)
    data = {"x": x, "log_square": squares.log()}
    found, slope = linearise(residual, z, data)
    log_variance = (x * z[:, None]).sum(-1)
    ratio = squares / log_variance.exp()
    exact = quasi_likelihood(squares.sqrt().numpy(), log_variance.exp().numpy())
    constant = 1 + squares.log().numpy()
    np.testing.assert_allclose(found.square().numpy(), exact - constant, rtol=1e-9)
    gradient = 2 * (found[..., None] * slope)
    np.testing.assert_allclose(gradient, (1 - ratio)[..., None] * x, rtol=1e-6, atol=1e-9)
    # where the day is as expected, both root and slope are finite
    x[0, 0], z[0] = torch.eye(5, dtype=torch.float64)[0], torch.zeros(5, dtype=torch.float64)
    data["log_square"][0, 0] = 0.0
    value, slope = linearise(residual, z, data)
    assert abs(value[0, 0]) < 1e-6
    assert torch.isfinite(slope).all()


def test_columns_know_the_past_alone():
    returns = np.random.default_rng(0).normal(size=(2, 40))
    known = columns(returns)
    changed = returns.copy()
    changed[:, 20] *= 5
    np.testing.assert_array_equal(columns(changed)[:, :21], known[:, :21])
    assert (columns(changed)[:, 21] != known[:, 21]).any()


def test_a_garch_by_its_recursion():
    returns, free = np.random.default_rng(0).normal(size=(1, 30)), np.array([0.2, 2.0, -1.0])
    persistence, share = 1 / (1 + np.exp(-free[1:]))
    variance, found = np.mean(returns[0, :10] ** 2), []
    for day in range(30):
        found.append(variance)
        variance = (
            np.exp(free[0]) * (1 - persistence)
            + persistence * share * returns[0, day] ** 2
            + persistence * (1 - share) * variance
        )
    np.testing.assert_allclose(garch(free, returns, 10)[0], found)


def test_no_asset_and_no_day_of_the_test_is_learned_from():
    returns = shipped_returns()
    held = study.folds(list(returns), 0)[1]
    found = study.split(returns, held, 1, 60)
    assert set(found.test.assets) == set(held)
    assert not set(held) & {*found.train.assets, *found.validation.assets, *found.long.assets}
    assert not {*found.train.assets} & {*found.validation.assets}
    # poisoned after the cut, nothing that is learned from changes
    poisoned = returns.copy()
    poisoned.loc[poisoned.index >= study.CUTS[1]] = 9.0
    other = study.split(poisoned, held, 1, 60)
    np.testing.assert_array_equal(other.train.returns, found.train.returns)
    np.testing.assert_array_equal(other.long.returns, found.long.returns)


def test_a_new_asset_is_forecast_better_than_by_the_usual_methods(part):
    means = part.groupby("method")["qlike"].mean()
    assert means["Bayes"] < 0.99 * means["EWMA"]
    assert means["Bayes"] < 0.99 * means["GARCH, pooled"]
    assert means["GARCH, each asset"] > means["GARCH, pooled"] + 0.05
    assert abs(means["log-linear, MAML"] - means["Bayes"]) < 0.01
    within = part[part["method"] == "Bayes"]["within"].mean()
    assert 0.88 <= within <= 0.93
    records = study.records(part, 60, 0)
    assert {r["metric"] for r in records} == {"qlike", "qlike less default's", "within"}
    assert all(r["low"] <= r["value"] <= r["high"] for r in records)


def test_prices_that_stand_still_make_no_window():
    returns = shipped_returns()
    # RRC stood at 3.322 for most of 1990
    assert len(cut_windows(returns, ["RRC"], "1990-01-01", "1990-12-31", 60)) == 0
    assert len(cut_windows(returns, ["XOM"], "1990-01-01", "1990-12-31", 60)) == 4


def test_next_day_returns_cannot_be_forecast():
    found = {r["method"]: r for r in policy.returns_records(0)}
    assert found["pooled"]["value"] < 0
    assert found["each asset"]["high"] < 0
    assert found["pooled"]["n_tasks"] == 23


def test_wealth_pays_for_what_is_traded():
    returns = np.array([[0.10, 0.0], [0.0, 0.10]])
    weights, both = np.full((2, 2), 0.5), np.array([True, True])
    held = policy.wealth(returns, weights, np.array([True, False]))
    assert held[0] == pytest.approx((1 - policy.COST) * 1.05 - 1)
    assert held[1] == pytest.approx(0.1 * 0.5 / 1.05)
    turned = 2 * (0.55 / 1.05 - 0.5)
    brought = policy.wealth(returns, weights, both)
    assert brought[1] == pytest.approx((1 - policy.COST * turned) * 1.05 - 1)


def test_policies_are_told_with_their_difference():
    found = {(r["method"], r["metric"]): r for r in policy.policy_records(0)}
    gain = found["inverse volatility", "Sharpe ratio less that of equal weight"]
    assert gain["n_tasks"] == 23
    deviation = "deviation per year"
    assert (
        found["inverse volatility", deviation]["value"] < found["equal weight", deviation]["value"]
    )


GOOD = "asset,date,price,currency\n" + "".join(
    f"Ni,2024-{month:02d}-{day:02d},{100 + (day * 7 + month * 3) % 11},USD\n"
    for month in (1, 2, 3)
    for day in range(1, 29)
)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Co,", "Ni,", ""),
        (",USD\nNi,2024-01-03", ",EUR\nNi,2024-01-03", "row 3: currency 'EUR' of 'Ni', which was"),
        ("Ni,2024-01-04", "Ni,2024-01-03", "row 5: 'Ni': date '2024-01-03' is not after"),
        ("Ni,2024-01-04", "Ni,2023-12-04", "is not after the row before; sort"),
        ("2024-01-04", "4.1.2024", "row 5: date '4.1.2024'; write it as 2024-01-31"),
        ("Ni,2024-03-28", "Ni,2024-05-28", "row 85: 'Ni': date '2024-05-28' is 62 days after"),
        ("price", "close", "no column 'price' among asset, date, close, currency"),
    ],
)
def test_what_is_wrong_with_prices_is_named(tmp_path, old, new, told):
    path = tmp_path / "prices.csv"
    path.write_text(GOOD.replace(old, new, 1))
    if not told:
        assert list(read_prices(path)) == ["Ni"]
        return
    with pytest.raises(MatmlError, match=told):
        read_prices(path)


@pytest.mark.parametrize(
    ("prices", "told"),
    [
        ([20.1, 18.3, -37.63, 10.0], "row 4: price '-37.63'; returns are of positive prices"),
        ([20.1, 0, 21, 20], "row 3: price '0.0'"),
        ([40.0, 41, 20.4, 20.1], "row 4: 'Ni': the price of '2024-01-03' is 0.498 times"),
        ([40.0, 40, 40, 40, 41], "row 3: price '40.0' of 'Ni' stands still on 3 of 4 days"),
        ([40.0, 41], "row 3: price '41.0' of 'Ni' stands still on 0 of 1 days"),
    ],
)
def test_prices_that_cannot_be_are_refused(tmp_path, prices, told):
    path = tmp_path / "prices.csv"
    days = [f"2024-01-{day + 1:02d}" for day in range(len(prices))]
    table = pd.DataFrame({"asset": "Ni", "date": days, "price": np.array(prices, float)})
    table.to_csv(path, index=False)
    with pytest.raises(MatmlError, match=told):
        read_prices(path)


def test_own_prices_get_bands_from_seventy_days(tmp_path, monkeypatch):
    returns = shipped_returns()
    windows = study.split(returns, study.folds(list(returns), 0)[2], 0, 60)
    learned, _ = study.learn(windows.long, windows.train, windows.validation, 60)
    monkeypatch.setattr(study, "learned_from_all", lambda: learned)
    silver = returns["silver"].dropna().iloc[3000:3070]
    path, out = tmp_path / "prices.csv", tmp_path / "bands.csv"
    dates = silver.index.strftime("%Y-%m-%d")
    table = pd.DataFrame({"asset": "Ag", "date": dates, "price": 500 * np.exp(silver.cumsum())})
    table.to_csv(path, index=False)
    words = ["study", "prices", "forecast", "--prices", str(path), "--out", str(out)]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    [row] = pd.read_csv(out).to_dict("records")
    yearly = np.sqrt(252) * silver.std()
    assert 0.6 < row["volatility_per_year"] / yearly < 1.6
    assert row["next_low"] < 0 < row["next_high"] < row["horizon_high"]
    assert "Ag: 69 days" in result.output


def test_the_commands_write_records(tmp_path):
    out = tmp_path / "returns.json"
    result = CliRunner().invoke(cli, ["study", "prices", "returns", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "is not above zero" in result.output
    assert {r["method"] for r in json.loads(out.read_text())} == {"pooled", "each asset"}
