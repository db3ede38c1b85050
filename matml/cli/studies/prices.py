"""`matml study prices …`: volatility of assets, and what cannot be forecast."""

from collections.abc import Sequence
from pathlib import Path

import click

from matml.cli.options import FILE

json_option = click.option("--json", "json_file", type=FILE, help="Write tidy records.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)


@click.group()
def prices() -> None:
    """An asset as a task: volatility from its first days. No advice to buy or sell."""


def _tell(records: Sequence[dict], title: str, json_file: Path | None) -> None:
    """Print records as a table, each with its 95 % interval over assets or years."""
    from matml.core.files import write_json

    click.echo(title)
    for record in records:
        interval = f"[{record['low']:.3f}, {record['high']:.3f}]"
        click.echo(
            f"{record['method']:22}{record['metric']:40}{record['value']:9.4f}  {interval}"
            f"  n = {record['n_tasks']}"
        )
    if json_file:
        write_json(json_file, list(records))


@prices.command()
@click.option("--shots", type=click.IntRange(20, 1000), default=60, show_default=True)
@seed_option
@json_option
def volatility(shots: int, seed: int, json_file: Path | None) -> None:
    """Volatility of assets not seen before from their first days: methods against each other."""
    from matml.studies.prices import study

    records = study.records(study.volatility(shots, seed), shots, seed)
    title = f"QLIKE of the {study.QUERY} days after the first {shots}, and share in 90 % bands"
    _tell(records, title, json_file)


@prices.command()
@seed_option
@json_option
def returns(seed: int, json_file: Path | None) -> None:
    """Next-day returns: out-of-sample R2, which is not above zero."""
    from matml.studies.prices.policy import returns_records

    records = returns_records(seed)
    _tell(records, "Next-day returns from the last five, R2 against the mean", json_file)
    best = max(record["value"] for record in records)
    said = "is not above zero: returns cannot be forecast" if best <= 0 else f"is {best:.4f}"
    click.echo(f"Out of sample R2 {said}.")


@prices.command()
@seed_option
@json_option
def policy(seed: int, json_file: Path | None) -> None:
    """Weights by forecast volatility, after costs, beside equal weight and buy and hold."""
    from matml.studies.prices.policy import policy_records

    _tell(policy_records(seed), "20 stocks from 2000 on, 0.1 % of all that is traded", json_file)


@prices.command()
@click.option(
    "--prices",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="CSV: asset, date, price[, currency], a row a day.",
)
@click.option("--horizon", type=click.IntRange(1, 250), default=20, show_default=True, help="Days.")
@seed_option
@click.option("--out", type=FILE, help="CSV to write.")
def forecast(path: Path, horizon: int, seed: int, out: Path | None) -> None:
    """Volatility and 90 % bands of your own assets, from a few days on."""
    from matml.core.files import write_table
    from matml.studies.prices.returns import read_prices

    # what cannot be read is told before torch is there, which takes seconds
    assets = read_prices(path)
    from matml.studies.prices import study

    found = study.forecast(assets, horizon, seed)
    for row in found.itertuples():
        click.echo(
            f"{row.asset}: {row.days} days; volatility {row.volatility_per_year:.1%} a year; next "
            f"day {row.next_low:.1f} to {row.next_high:.1f} %, after {horizon} days "
            f"{row.horizon_low:.1f} to {row.horizon_high:.1f} % (90 %)"
        )
    if out:
        write_table(out, found)
