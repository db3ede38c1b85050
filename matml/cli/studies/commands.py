"""`matml study …`: the same learners in other fields."""

import click

from matml.cli.studies.batch_norm import batch_norm
from matml.cli.studies.furnace import furnace
from matml.cli.studies.patients import patients
from matml.cli.studies.prices import prices


@click.group()
def study() -> None:
    """Other fields on the same core: what is learned of many tasks, for a new one."""


for room in (batch_norm, furnace, patients, prices):
    study.add_command(room)
