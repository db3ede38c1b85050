"""`matml study …`: the same learners in other fields."""

import click

from matml.cli.studies.prices import prices


@click.group()
def study() -> None:
    """Other fields on the same core: what is learned of many tasks, for a new one."""


study.add_command(prices)
