"""Real crystals, few enough for tests: whole families of the embedded tables."""

import fcntl
import gzip
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.core.files import write_table
from matml.structures.crystals import CrystalSet
from matml.structures.settings import STRUCTURES

# modules that tests share
sys.path.insert(0, str(Path(__file__).parent))

LABELS = {
    "formation_energy": ["formation_energy_eV_per_atom"],
    "elastic": ["bulk_modulus_GPa", "shear_modulus_GPa"],
}


@pytest.fixture(scope="session")
def crystals(pytestconfig):
    """About 350 crystals: cubic ones of few atoms, so that families are well filled."""
    tables = []
    for name in LABELS:
        with gzip.open(pytestconfig.rootpath / f"data/crystals/{name}.csv.gz") as file:
            tables.append(pd.read_csv(file).assign(source=name))
    table = pd.concat(tables, ignore_index=True)
    sites = table["poscar"].str.split("\n").str[6].str.split().map(lambda n: sum(map(int, n)))
    table = table[sites.between(2, 5)].groupby("source").head(220).reset_index(drop=True)
    structures = [Structure.from_str(text, fmt="poscar") for text in table["poscar"]]
    labels = table[[label for columns in LABELS.values() for label in columns]]
    made = CrystalSet.from_structures(
        structures, ids=table["source"] + "/" + table["material_id"], labels=labels
    )
    assert len(made) == len(table)
    return made


@pytest.fixture(scope="session")
def names():
    """Properties that the fixture's crystals carry."""
    return [label for columns in LABELS.values() for label in columns]


@pytest.fixture(scope="session")
def targets(crystals, names):
    """Standardised targets."""
    from matml.core.standardise import Standardisation
    from matml.properties.dataset import learned_properties, learned_values

    values = learned_values(crystals.table, learned_properties(crystals.table, names))
    return Standardisation.of(values).apply(values).astype(np.float32)


SETTINGS = """
properties: {formation_energy_eV_per_atom: 1.0, bulk_modulus_GPa: 0.3}
smallest_family: 12
smallest_task: 6
held_out: []
members: 2
width: 16
layers: 2
batch_size: 32
epochs: 6
inner_steps: 2
meta_batches: 4
tasks_per_batch: 2
shots: [0, 5]
test_draws: 2
validation_draws: 2
smallest_query: 3
fine_tuning_steps: [1, 2]
trees: 10
gp_subset: 60
gp_steps: 5
"""


@pytest.fixture(scope="session")
def folder(crystals, tmp_path_factory):
    """A finished run; made by the same commands as the workflow's, once for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-run"
    with open(f"{shared}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            begun = shared.with_name("begun-run")
            make_run(crystals, begun)
            begun.rename(shared)
    # each process has its own, since tests write beside
    return Path(shutil.copytree(shared, base / "run"))


def make_run(crystals, folder):
    from matml.cli.properties.commands import properties

    write_table(folder / "structures/structures.parquet", crystals.table, STRUCTURES)
    crystals.graphs.save(folder / "graphs")
    (folder / "properties.yaml").write_text(SETTINGS)
    common = [
        f"--structures={folder}/structures",
        f"--graphs={folder}/graphs",
        f"--config={folder}/properties.yaml",
    ]
    run = f"--run={folder}/properties"

    def matml(*arguments):
        result = CliRunner().invoke(properties, [*arguments, *common], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    matml("split", f"--out={folder}/properties")
    members, predictions, baselines, models = [], [], [], []
    for member in ("0", "1"):
        own = f"{folder}/properties/members/{member}"
        matml("pretrain", run, f"--member={member}", f"--out={own}")
        matml("metatrain", run, f"--member={member}", f"--pretrained={own}", f"--out={own}")
        table = f"{folder}/properties/predictions/{member}.parquet"
        matml("evaluate", run, f"--member={member}", f"--folder={own}", f"--out={table}")
        members.append(f"--member={own}")
        predictions.append(f"--member={table}")
    for name in ("formation_energy_eV_per_atom", "bulk_modulus_GPa"):
        table = f"{folder}/properties/predictions/{name}.parquet"
        model = f"{folder}/properties/baselines/{name}.safetensors"
        matml("baseline", run, f"--property={name}", f"--out={table}", f"--model-out={model}")
        baselines.append(f"--baseline={table}")
        models.append(f"--baseline={model}")
        table = f"{folder}/properties/predictions/stack-{name}.parquet"
        model = f"{folder}/properties/stacks/{name}.safetensors"
        matml(
            "stack", run, f"--property={name}", *members, f"--out={table}", f"--model-out={model}"
        )
        baselines.append(f"--stack={table}")
        models.append(f"--stack={model}")
    evaluation = f"{folder}/properties/evaluation"
    matml("compare", run, *predictions, *baselines, f"--out={evaluation}")
    new = f"{folder}/properties/new-property.safetensors"
    matml("new-property", run, *members, f"--out={new}")
    models.append(f"--new-property={new}")
    matml("export", run, *members, *models, f"--evaluation={evaluation}", f"--out={folder}/model")


@pytest.fixture(scope="session")
def bench(folder):
    """Crystals, split and standardisation of that run."""
    from matml.core.settings import read_section
    from matml.properties.dataset import Workbench
    from matml.properties.settings import PropertiesSection

    settings = read_section(PropertiesSection, folder / "properties.yaml")
    return Workbench.open(folder / "structures", folder / "graphs", folder / "properties", settings)


@pytest.fixture(scope="session")
def predictor(folder):
    """What that run exported."""
    from matml.properties.predictor.few_shot import FewShotPredictor

    return FewShotPredictor.load(folder / "model")


@pytest.fixture(scope="session")
def family(crystals):
    """Fourteen different crystals of one family with bulk moduli."""
    labelled = crystals.table[crystals.table["bulk_modulus_GPa"].notna()]
    labelled = labelled.drop_duplicates("formula")
    largest = labelled["family"].value_counts().index[0]
    rows = labelled.index[labelled["family"] == largest][:14]
    assert len(rows) == 14
    return crystals.subset(rows)
