"""What the commands of `matml properties` share: their options, and what is opened by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matml.cli.options import FILE, FOLDER

if TYPE_CHECKING:
    from matml.properties.dataset import Workbench
    from matml.properties.settings import PropertiesSection

Command = Callable[..., Any]

run_option = click.option(
    "--run", required=True, type=FOLDER, help="Folder that `matml properties split` wrote."
)
member_option = click.option(
    "--member", required=True, type=int, help="Number of the ensemble's member."
)
methods_option = click.option(
    "--method", "methods", multiple=True, help="Of meta-learning; repeatable."
)
property_option = click.option("--property", "name", required=True, help="Property's column.")


@dataclass(frozen=True)
class Stage:
    """The options that every stage takes.

    Attributes
    ----------
    structures, graphs
        Folders of the ingested crystals and of their graphs.
    """

    structures: Path
    graphs: Path
    settings: PropertiesSection
    seed: int
    device: str
    threads: int

    @property
    def training(self) -> dict[str, Any]:
        """Seed and device, as what trains or adapts networks takes them."""
        return {"seed": self.seed, "device": self.device}

    def open(self, run: Path, *, networks: bool = True, whole: bool = True) -> Workbench:
        """Return the crystals with the split of a run.

        Parameters
        ----------
        networks
            Whether any is used: without them torch need not be imported.
        whole
            Whether cells of all crystals are used: networks are trained on graphs.
        """
        if networks:
            self.limit_torch()
        from matml.properties.dataset import Workbench

        return Workbench.open(self.structures, self.graphs, run, self.settings, whole=whole)

    def limit_torch(self) -> None:
        """Bound the threads of torch, and keep freed memory."""
        import torch

        from matml.core.processors import keep_memory

        keep_memory()
        torch.set_num_threads(self.threads)

    def made_with(self, run: Path, **own: object) -> dict[str, object]:
        """Return what a job's results depend on: settings, and hashes of the files that it reads.

        Raises
        ------
        MatmlError
            Where a file is missing.
        """
        from matml.core.errors import MatmlError
        from matml.core.provenance import file_hash

        files = [*self.crystals, *(run / name for name in ("split.json", "episodes.parquet"))]
        if missing := [path for path in files if not path.is_file()]:
            raise MatmlError(f"{missing[0]}: no such file")
        hashes = {path.name: file_hash(path) for path in files}
        settings = self.settings.model_dump(mode="json")
        return {"settings": settings, "seed": self.seed, "files": hashes} | own

    @property
    def crystals(self) -> list[Path]:
        """Files that the crystals are read from."""
        from matml.structures.settings import TABLE

        graphs = (self.graphs / name for name in ("graphs.safetensors", "index.parquet"))
        return [self.structures / TABLE, *graphs]


def stage_options(command: Command) -> Command:
    """Add the options that all stages take, and give them to the command as its `stage`."""

    @wraps(command)
    def with_stage(
        structures: Path,
        graphs: Path,
        config_file: Path | None,
        threads: int,
        device: str,
        seed: int,
        **own: Any,
    ) -> Any:
        # nothing heavy is imported before the files are known to be there
        from matml.core.errors import MatmlError
        from matml.core.processors import usable_threads
        from matml.core.settings import read_section
        from matml.properties.settings import PropertiesSection

        settings = read_section(PropertiesSection, config_file)
        stage = Stage(structures, graphs, settings, seed, device, usable_threads(threads))
        if missing := [path for path in stage.crystals if not path.is_file()]:
            raise MatmlError(f"{missing[0]}: no such file")
        return command(stage, **own)

    for option in (
        click.option("--seed", default=0, show_default=True, help="Seed of random choices."),
        click.option("--device", default="cpu", show_default=True, help="torch device."),
        click.option("--threads", default=1, show_default=True, help="Processors to use."),
        click.option("--config", "config_file", type=FILE, help="Settings of the section, YAML."),
        click.option("--graphs", required=True, type=FOLDER, help="Folder of the graphs."),
        click.option("--structures", required=True, type=FOLDER, help="Ingested structures."),
    ):
        with_stage = option(with_stage)
    return with_stage
