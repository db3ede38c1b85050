"""`matml init`: a folder for one's own crystals, with a commented configuration."""

from pathlib import Path

import click

CONFIGURATION = """\
# What differs from the defaults; `matml config check matml.yaml` says what is wrong or missing.
# All keys: the page "Configuration" of the documentation.
output_dir: results
seed: 0

structures:
  # your crystals: CIF, POSCAR, JSON, extended XYZ, tables, zips, folders of these.
  # The tables that come with matml make the families from which yours is learned.
  inputs:
    - crystals
    - data/crystals/formation_energy.csv.gz
    - data/crystals/elastic.csv.gz
    - data/crystals/dielectric.csv.gz
  # a row for each crystal that you have a value of
  labels: labels.csv

# What is learned, and its weight; these take the place of the default's. Names of your own are
# columns of labels.csv, with the unit at the end: melting_point_K.
# properties:
#   properties: {formation_energy_eV_per_atom: 1.0, bulk_modulus_GPa: 0.3}

# What is screened for: members of this family, made by exchanging ions, or your own candidates.
# screening:
#   property: bulk_modulus_GPa
#   family: rocksalt
#   candidates: [candidates]
"""
LABELS = "file,bulk_modulus_GPa\n"
README = """\
# A project with matml

1. Put crystals with known values into `crystals/`, those to be ranked into `candidates/`.
2. Give the values in `labels.csv`: a row for each crystal, its file as seen from here
   (`crystals/MgO.cif`), and a column for each property, with its unit: `bulk_modulus_GPa`,
   `melting_point_K`.

With the model that comes with matml, in seconds:

    matml screen --property bulk_modulus_GPa --support labels.csv --candidates candidates
    matml report screening

With networks trained on your crystals, too, in a quarter of an hour or more:

    matml config check matml.yaml
    matml run --cores 8 --configfile matml.yaml

Both end with a page, `screening/report.html` and `results/report.html`.
"""
FILES = {"matml.yaml": CONFIGURATION, "labels.csv": LABELS, "README.md": README}
FOLDERS = ("crystals", "candidates")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Lay down a project in FOLDER: configuration, a table for labels, and what to do next.

    Files that are there already are left as they are, and named.
    """
    from matml.core.files import write_text

    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        if (folder / name).exists():
            click.echo(f"{folder / name}: is there already and was left as it is")
        else:
            write_text(folder / name, text)
    click.echo(f"{folder}: read {folder / 'README.md'} for what to do next")
