"""What the page shows: the diagrams, parameters, doubts and next experiments of a question."""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from matml.app.question import TYPICAL, Question
from matml.core.errors import MatmlError
from matml.figures.plotly import specification
from matml.kinetics.data.observations import read_observations
from matml.kinetics.diagrams.drawn import diagrams
from matml.kinetics.frames import CalibratedAlloy
from matml.kinetics.inference.several import mixed
from matml.kinetics.pipeline import calibrate_stage
from matml.kinetics.settings import KineticsSection

KEPT = 16
"""Answers that are kept, so that going back is at once."""
NEXT = 3
"""Experiments that are proposed."""
THINNED = 4
"""Of so many draws a quick answer keeps one."""
LEAST_SQUARES = "least squares"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


CONDITIONS: dict[str, tuple[str, Callable[[float], str]]] = {
    "temperature_C": ("temperature (°C)", "{:.0f}".format),
    "time_s": ("time", duration),
    "heating_rate_K_per_s": ("heating rate (K/s)", "{:.3g}".format),
    "duration_s": ("takes", duration),
    "variance_left": ("variance left", "{:.0%}".format),
}
"""Columns of proposals that are shown, with their titles and forms."""


@dataclass(frozen=True)
class Answer:
    """A calibrated alloy, and under which populations.

    Attributes
    ----------
    priors
        Their names.
    judged
        Whether observations were judged; a quick answer goes without.
    """

    alloy: CalibratedAlloy
    priors: list[str]
    judged: bool

    def figures(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield title and plotly figure of each diagram."""
        for _, figure in diagrams(self.alloy.calibration):
            drawn = specification(figure)
            if not self.judged:
                drawn["data"] = [t for t in drawn["data"] if t.get("name") != LEAST_SQUARES]
            yield figure.title, drawn

    def under(self) -> str:
        """Return the priors in words."""
        said = [
            f"typical ranges of {name.removeprefix(TYPICAL)}" if name.startswith(TYPICAL) else name
            for name in self.priors
        ]
        return " and ".join(said)

    def parameters(self) -> pd.DataFrame:
        """Return the parameters as they are shown, all text."""
        table = self.alloy.parameters
        shown = {
            "parameter": [
                name.removesuffix(f"_{unit.replace('/', '_')}").replace("_", " ")
                for name, unit in zip(table["parameter"], table["unit"], strict=True)
            ],
            "unit": table["unit"],
            "median": table["median"].map("{:.4g}".format),
            "90 % interval": [
                f"{low:.4g} to {high:.4g}"
                for low, high in zip(table["low_90"], table["high_90"], strict=True)
            ],
            "determined by": table["determined_by"].replace("both", "data and prior"),
        }
        return pd.DataFrame(shown)

    def doubts(self) -> dict[int, str]:
        """Return what is doubtful of a point, by its line: 2 is the first below the header."""
        found = {
            int(row.line): f"{row.reason}; {row.remedy}; left out"
            for row in self.alloy.observations.quarantine.itertuples()
        }
        table = self.alloy.calibration.residual_table()
        for row in table[table["outlier"]].itertuples() if self.judged else ():
            found[int(row.line)] = (
                f"{abs(row.residual_over_noise):.1f} times the noise from what the others say"
            )
        return found

    def proposals(self) -> pd.DataFrame:
        """Return the next experiments as they are shown, all text; none under typical ranges."""
        if any(name.startswith(TYPICAL) for name in self.priors):
            return pd.DataFrame()
        found = self.alloy.suggest(NEXT)
        shown = {
            label: found[name].map(form)
            for name, (label, form) in CONDITIONS.items()
            if name in found
        }
        return pd.DataFrame(shown)


@lru_cache(maxsize=KEPT)
def answer(question: Question, judged: bool) -> Answer:
    """Return the answer to a question; a quick one unless it is to be judged.

    Raises
    ------
    MatmlError
        Where there is nothing to calibrate from, or no population or equation fits.
    """
    priors, composition = question.priors(), question.amounts()
    table, alloys = question.table(), {}
    for name, population in priors.items():
        alloys[name] = population.calibrate(table, composition, judged=judged)
    first = next(iter(alloys.values()))
    if len(alloys) > 1:
        one = mixed({name: own.calibration for name, own in alloys.items()})
        under = (own for own in alloys.values() if own.calibration.population is one.population)
        first = next(under)
        first = replace(first, calibration=one)
    if not judged:
        posterior = first.calibration.posterior
        draws, noise = (x[:, ::THINNED] for x in (posterior.draws, posterior.noise))
        thinned = replace(posterior, draws=draws, noise=noise)
        first = replace(first, calibration=replace(first.calibration, posterior=thinned))
    return Answer(first, list(priors), judged)


def archive(question: Question) -> bytes:
    """Return a ZIP: the points, the commands that repeat it, and all that these write."""
    given = answer(question, True)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        points, alloys = question.write(place, question.priors().values())
        learned = [Path(name) for name in given.priors if not name.startswith(TYPICAL)]
        named = [name.removeprefix(TYPICAL) for name in given.priors if name.startswith(TYPICAL)]
        calibrate_stage(
            priors=learned,
            equation=named[0] if named else None,
            data=points,
            observations=read_observations(points, alloys),
            out=place / "calibration",
            names=[],
            held_out=False,
            points=None,
            settings=KineticsSection(),
            seed=0,
        )
        (place / "commands.txt").write_text("\n".join(question.commands(given.priors)) + "\n")
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(place.rglob("*")):
                if path.is_file():
                    packed.write(path, path.relative_to(place))
        return held.getvalue()


def in_words(error: Exception) -> str:
    """Return what to show of an error: a message of ours, or what to do about another."""
    if isinstance(error, MatmlError):
        return str(error)
    return f"{type(error).__name__}: {error}; save your points and report it"
