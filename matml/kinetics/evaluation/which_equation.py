"""Which equation describes an alloy's observations: evidence, and Q over the conversion."""

import logging
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import folder_name, write_table
from matml.figures.figure import Axis, Figure, Part, Series, style_of
from matml.figures.static import write
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import EQUATIONS
from matml.kinetics.inference.evidence import CLEAR, candidates, hold_exponent, weigh
from matml.kinetics.inference.isoconversional import flatness, isoconversional

log = logging.getLogger(__name__)

FEATURES = {
    "a plateau": ("jmak_incomplete",),
    "an incubation": ("jmak_incubation",),
    "two stages": ("jmak_two_stages",),
    "impingement other than JMAK's": ("impingement", "austin_rickett"),
}
"""What equations add to JMAK, and which."""


def compare_equations_stage(
    data: Path, observations: Observations, names: list[str], out: Path, seed: int
) -> None:
    """Weigh the equations for each alloy, say what the evidence is for, write tables and figure.

    Raises
    ------
    MatmlError
        Where an alloy is not there, or nothing describes the observations.
    """
    for name in names or observations.names:
        if name not in observations.names:
            raise MatmlError(f"--alloy {name}: give one of {', '.join(observations.names)}")
        own, folder = observations.select([name]), out / folder_name(name)
        equations = candidates(own)
        if not equations:
            raise MatmlError(
                f"{data}: no built-in equation describes {own.kind!r} observations with these "
                "columns; `matml kinetics equations` lists what each needs"
            )
        table = hold_exponent(own, weigh(own, equations, seed), seed)
        write_table(folder / "equations.csv", _flat(table))
        log.info("alloy %s: %d observations", name, len(own.points))
        for row in table.to_dict("records"):
            log.info(
                "  %-28s ln evidence %8.1f, probability %.2f, rmse %.3g %s",
                *(row["equation"], row["log_evidence"], row["probability"]),
                *(row["rmse"], row["unit"]),
            )
        for told in features(table):
            log.info("  %s", told)
        if own.kind == "fraction":
            _energies(own, folder)


def features(table: pd.DataFrame) -> list[str]:
    """Return what the evidence is for beyond JMAK, and for the exponent held, in sentences.

    A feature's best equation is compared with the best without it, of any kind: what another
    feature explains better is no evidence, which is not to say that JMAK without either would do.
    The exponent is the best equation's.
    """
    equations, log_evidence = table["equation"], table["log_evidence"]
    plain = equations.str.split(",").str[0]
    found = []
    for what, names in FEATURES.items():
        has = plain.isin(names)
        if not has.any() or has.all():
            continue
        own, other = log_evidence[has].idxmax(), log_evidence[~has].idxmax()
        added = set(table["estimates"][own]) - set(EQUATIONS["jmak"].parameter_names)
        values = "".join(f"; {name} {table['estimates'][own][name]:.3g}" for name in sorted(added))
        gain = log_evidence[own] - log_evidence[other]
        over = log_evidence[own] - log_evidence[plain == "jmak"].max()
        verdict = f"{_verdict(gain)} for {what}"
        if gain <= 1 and over > CLEAR:
            verdict = (
                f"{what}: e^{over:+.1f} over JMAK without it, but something else explains more"
            )
        found.append(
            f"{verdict} ({equations[own]}: e^{gain:+.1f} over "
            f"{equations[other]}, the best without{values})"
        )
    best = plain[log_evidence.idxmax()]
    free, held = equations == best, (plain == best) & (equations != best)
    if free.any() and held.any():
        own = log_evidence[held].idxmax()
        gain = log_evidence[own] - log_evidence[free].item()
        value = table.loc[free, "estimates"].item()["avrami_exponent"]
        found.append(
            f"exponent of {best}: {equations[own].removeprefix(f'{best}, ')} is e^{gain:+.1f} "
            f"times as probable as a free one ({value:.2f})"
        )
    return found


def _verdict(gain: float) -> str:
    return "clear evidence" if gain > CLEAR else "weak evidence" if gain > 1 else "no evidence"


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    words = [
        ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        for found in table["estimates"]
    ]
    return table.assign(estimates=words)


def _energies(own: Observations, folder: Path) -> None:
    """Say what Q is over the conversion; table and figure."""
    table = isoconversional(own)
    if table.empty:
        log.info("  Q over the conversion: needs two runs at different temperatures or rates")
        return
    for sentence in flatness(table):
        log.info("  %s", sentence)
    write_table(folder / "isoconversional.csv", table)
    parts: list[Part] = []
    for method, rows in table.groupby("method", sort=False):
        colour, symbol, _ = style_of(len(parts))
        x, y = rows["conversion"], rows["activation_energy_kJ_mol"]
        parts.append(Series(x, y, str(method), colour, symbol, width=1.6))
    axes = Axis("conversion", ends=(0, 1)), Axis("activation energy (kJ/mol)", from_zero=True)
    title = f"Isoconversional activation energy of {own.names[0]}"
    if own.simulated:
        title += " (simulated data)"
    note = "Flat where one activation energy describes the reaction."
    write(Figure("isoconversional", title, *axes, parts, note), [folder / "isoconversional.png"])
