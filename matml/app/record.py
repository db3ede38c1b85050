"""An instrument's file on the page: how it is understood, and the points that are made of it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matml.app.question import NAME
from matml.core.errors import MatmlError
from matml.figures.plotly import specification
from matml.kinetics.instruments.convert import by_lever_rule, by_partial_areas, convert_files
from matml.kinetics.instruments.export import read_export
from matml.kinetics.instruments.inspect import inspect_file, record_figure, signal_role
from matml.kinetics.instruments.records import records_of

MOST = 30
"""Points that are made of a run: more would not be looked at one by one."""
RANGES = {"length": ("parent", "product", "hold"), "heat_flow": ("peak", "hold")}
"""Ranges that a signal's conversion may take."""


@dataclass(frozen=True)
class Dropped:
    """A file as the page sends it.

    Attributes
    ----------
    content
        Its bytes.
    """

    name: str
    content: bytes

    @classmethod
    def of(cls, name: str, url: str) -> "Dropped":
        """Return the file of a data URL."""
        return cls(Path(name).name, base64.b64decode(url.partition(",")[2]))

    def understood(self) -> dict[str, Any]:
        """Return how a record is understood: lines, figure, role of the signal, and segments.

        Raises
        ------
        MatmlError
            Where it is no record.
        """
        with self._written() as path:
            export = read_export(path)
            role = signal_role(export)
            records = records_of(export, role)
            lines = [line.strip() for line in inspect_file(path)][1:]
        segments = {
            str(number): records[0].told(segment)
            for number, segment in enumerate(records[0].segments, 1)
        }
        return {
            "role": role,
            "lines": [line for line in lines if not line.startswith("next:")],
            "figure": specification(record_figure(records)),
            "segments": segments,
        }

    def points(
        self, role: str, ranges: Mapping[str, Sequence[float] | None], segment: str | None
    ) -> str:
        """Return the observations of the record as the text of a CSV.

        Parameters
        ----------
        ranges
            In the units of the file, by the names of `RANGES`.
        segment
            Number of the one that is meant.

        Raises
        ------
        MatmlError
            As of the command `matml kinetics convert`.
        """
        if role == "length":
            method = "lever rule"
            change = by_lever_rule(
                ranges.get("parent"), ranges.get("product"), ranges.get("hold"), segment
            )
        else:
            method = "partial areas"
            change = by_partial_areas(ranges.get("peak"), ranges.get("hold"), segment)
        with self._written() as path:
            out = path.with_name("made.csv")
            convert_files(
                [path], role, None, change, method,
                alloy=NAME, out=out, segment=segment, most=MOST,
            )  # fmt: skip
            return out.read_text()

    @contextmanager
    def _written(self) -> Iterator[Path]:
        """Give the file a place; messages do not name its folder, which is ours."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / self.name
            path.write_bytes(self.content)
            try:
                yield path
            except MatmlError as error:
                raise MatmlError(str(error).replace(f"{folder}/", "")) from None


def pair(text: str | None, name: str) -> tuple[float, float] | None:
    """Return the two numbers of a field, None where it is empty.

    Raises
    ------
    MatmlError
        Where it holds anything else.
    """
    parts = (text or "").replace(",", ".").split()
    if not parts:
        return None
    try:
        low, high = map(float, parts)
    except ValueError:
        raise MatmlError(f"{name}: {text!r}: give two numbers, as 550 600") from None
    return low, high
