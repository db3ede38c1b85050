"""Options and preparations that all commands of `matml properties` share."""

from collections.abc import Callable
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def shared_options(command: Callable) -> Callable:
    """Add the options that all stages take."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Seed of random choices."),
        click.option("--device", default="cpu", show_default=True, help="torch device."),
        click.option("--threads", default=1, show_default=True, help="Processors to use."),
        click.option("--config", "config_file", type=FILE, help="Settings of the section, YAML."),
        click.option("--graphs", required=True, type=FOLDER, help="Folder of the graphs."),
        click.option("--structures", required=True, type=FOLDER, help="Ingested structures."),
    ):
        command = option(command)
    return command


def prepare(config_file: Path | None, threads: int):
    """Return the settings, after bounding the threads of torch and keeping freed memory."""
    import torch

    from matml.core.processors import keep_memory, usable_threads
    from matml.core.settings import read_section
    from matml.properties.settings import PropertiesSection

    keep_memory()
    torch.set_num_threads(usable_threads(threads))
    return read_section(PropertiesSection, config_file)
