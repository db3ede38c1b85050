"""What the commands of `matml kinetics` share: their options, and the settings read by them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

READABLE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
Command = Callable[..., Any]
trust_option = click.option(
    "--trust-equation",
    is_flag=True,
    help="Run the Python file that the prior names as its equation; needed once per content.",
)


class Duration(click.ParamType):
    """A duration such as 8h, 90min or 3600 (s), in seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the seconds that a text stands for."""
        if isinstance(value, float):
            return value
        from matml.kinetics.data.units import TIMES

        found = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", str(value).strip().lower())
        unit = next((u for u in TIMES if found and (found[2] or "s") in u.words), None)
        try:
            second = float(found[1]) * unit.factor if found and unit else 0.0
        except ValueError:
            second = 0.0
        if second <= 0:
            self.fail(f"{value!r}: give a number with s, min, h or d, such as 8h", param, ctx)
        return second


json_option = click.option(
    "--json", "json_path", type=READABLE, help="Also write tidy records here."
)


threads_number = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="At most."
)


def bound_threads(threads: int) -> None:
    """Bound the threads of torch, which takes more than a second to import."""
    import torch

    from matml.core.processors import usable_threads

    torch.set_num_threads(usable_threads(threads))


def threads_option(command: Command) -> Command:
    """Add the option that bounds the threads of torch."""

    @threads_number
    @wraps(command)
    def bounded(threads: int, **options: Any) -> Any:
        bound_threads(threads)
        return command(**options)

    return bounded


def settings_options(command: Command) -> Command:
    """Add the options of settings and seed; the command takes `settings`, of its section."""

    @click.option(
        "--config",
        type=READABLE,
        help="YAML with the keys of the kinetics section; by default its defaults.",
    )
    @click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
    @wraps(command)
    def with_settings(config: Path | None, **options: Any) -> Any:
        from matml.core.settings import read_section
        from matml.kinetics.settings import KineticsSection

        return command(settings=read_section(KineticsSection, config), **options)

    return with_settings


def stage_options(command: Command) -> Command:
    """Add what all stages take: settings, seed and threads."""
    return settings_options(threads_option(command))
