"""Setting C of the benchmark: the energy of a crystal relative to others of its kind.

Zeolites are the frameworks of the International Zeolite Association's atlas as pure SiO2, which
the package `zeose` ships; their energies are *surrogate labels*, those of the potential CHGNet at
the unrelaxed geometries. Perovskites carry the formation energies of the embedded DFT data. The
networks are those of a finished run. They have seen DFT energies of other forms of silica (26 in
the embedded tables), and nothing of the perovskite family that the run set aside for test.
"""

import importlib.util
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.core.provenance import file_hash, package_hash
from matml.core.statistics import rank_correlation
from matml.potentials.named import CHGNET, HOW
from matml.properties.baselines.chgnet import potential_features
from matml.properties.benchmark.new_property import predict_episodes
from matml.properties.benchmark.plan import check_made_with
from matml.properties.data.split import labelled_members
from matml.properties.dataset import Workbench
from matml.properties.evaluation.layout import member_folder
from matml.properties.networks.ensemble import load_network
from matml.properties.new_property.process import LabelProcess
from matml.properties.new_property.tasks import SHOTS, Episode, FeatureSets, family_tasks
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet

log = logging.getLogger(__name__)

ENERGY = "formation_energy_eV_per_atom"
SURROGATE = "surrogate_energy_eV_per_atom"
ZEOLITES, PEROVSKITES = "zeolites (surrogate labels)", "perovskites (DFT)"
PLACE = "zse", "collections/frameworks.db"


def shipped_frameworks() -> Path | None:
    """Return the table of frameworks that `zeose` ships; None where it is not installed."""
    found = importlib.util.find_spec(PLACE[0])
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))) / PLACE[1]


def read_frameworks(path: Path) -> dict[str, Structure]:
    """Return structures by the framework's code, from an SQLite table as ASE writes it.

    Raises
    ------
    MatmlError
        Where the file is missing or holds something else.
    """
    if not path.exists():
        raise MatmlError(f"{path}: no such file")
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            rows = connection.execute(
                "SELECT systems.numbers, positions, cell, value FROM systems "
                "JOIN text_key_values ON text_key_values.id = systems.id AND key = 'fw' "
                "ORDER BY systems.id"
            ).fetchall()
    except sqlite3.DatabaseError as error:
        raise MatmlError(
            f"{path}: is not the table of frameworks of `zeose` ({error}); install it with "
            "`pip install 'matml[zeolites]'`"
        ) from None
    found = {}
    for numbers, positions, cell, code in rows:
        # ASE stores little-endian arrays
        lattice = Lattice(np.frombuffer(cell, "<f8").reshape(3, 3))
        places = np.frombuffer(positions, "<f8").reshape(-1, 3)
        kinds = np.frombuffer(numbers, "<i4").tolist()
        found[code] = Structure(lattice, kinds, places, coords_are_cartesian=True)
    return found


def zeolites(frameworks: Path, cache: Path) -> CrystalSet:
    """Return the frameworks with their surrogate energy relative to the lowest, in eV/atom.

    Raises
    ------
    MatmlError
        Where the potential that gives the labels is not installed.
    """
    structures = read_frameworks(frameworks)
    crystals = CrystalSet.from_structures(list(structures.values()), ids=list(structures))
    said = potential_features(crystals, cache)
    if said is None:
        raise MatmlError(f"setting C takes energies of {CHGNET}: {HOW}")
    table = crystals.table.assign(**{SURROGATE: said.energy - said.energy.min()})
    return CrystalSet(table, crystals.graphs, crystals.quarantine)


def run_frameworks(
    structures: Path,
    graphs: Path,
    run: Path | None,
    out: Path,
    settings: PropertiesSection,
    *,
    frameworks: Path | None,
    seed: int,
    device: str,
) -> pd.DataFrame:
    """Return setting, shots, method, family (a crystal's id) and the draws' mean scores.

    Parameters
    ----------
    run
        Folder of the properties' results, with the split and the members.
    frameworks
        By default those that `zeose` ships.

    Raises
    ------
    MatmlError
        Where the trained members or the zeolites are missing, or the folder was made otherwise.
    """
    if run is None:
        raise MatmlError("setting C takes trained members: give --run, results/properties")
    frameworks = frameworks or shipped_frameworks()
    if frameworks is None:
        raise MatmlError(
            "setting C takes the frameworks of `zeose`: install it with "
            "`pip install 'matml[zeolites]'`, or give --frameworks"
        )
    bench = Workbench.open(structures, graphs, run, settings)
    if ENERGY not in bench.names:
        raise MatmlError(f"{run}: its networks do not predict {ENERGY}, which setting C takes")
    column = bench.names.index(ENERGY)
    recipe = bench.recipe(settings)
    files = [member_folder(run, i) / "pretrained.safetensors" for i in range(settings.members)]
    networks = [load_network(path, recipe)[0] for path in files]
    made_with = {
        "setting": "C",
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "crystals": bench.content(),
        "files": [file_hash(path) for path in [*files, frameworks]],
        "sources": package_hash("properties", "gp", "structures"),
    }
    check_made_with(out, made_with)
    scores = out / "frameworks.csv"
    if scores.exists():
        return read_table(scores)
    known = FeatureSets.of(bench.crystals, networks, device)
    scales = known.scales(bench.split.training_rows(bench.families))
    own = known.standardised(scales)
    process = LabelProcess.learn(family_tasks(bench, own, settings, SHOTS, seed=seed, known=True))
    tables = []
    crystals = zeolites(frameworks, out / "zeolites-potential.safetensors")
    log.info("%d frameworks, %d left out", len(crystals), len(crystals.quarantine))
    recipe.check_graphs(crystals.graphs.settings, frameworks)
    sets = FeatureSets.of(crystals, networks, device).standardised(scales)
    parts = [(ZEOLITES, sets, crystals.table, SURROGATE, np.arange(len(crystals)))]
    table = bench.crystals.table
    rows = perovskites(bench)
    if len(rows):
        parts.append((PEROVSKITES, own, table, ENERGY, rows))
    for setting, said, of, name, members in parts:
        labels = of[name].to_numpy(float)
        deviation = bench.standardisation.deviation[column]
        found = predict_episodes(
            process,
            said,
            said.for_baselines(),
            labels,
            episodes(members, settings, seed),
            trees=settings.trees,
            seed=seed,
            shifted=said.predictions.mean(0)[:, column] * deviation,
        )
        tables.append(
            score_crystals(found, labels, of["id"].to_numpy()).assign(
                setting=f"C, {setting}", property=ENERGY
            )
        )
    result = pd.concat(tables, ignore_index=True).assign(fold=0)
    write_table(scores, result)
    return result


def perovskites(bench: Workbench) -> np.ndarray:
    """Return the rows of the largest perovskite family that the run set aside for test."""
    table = bench.crystals.table
    aside = np.isin(bench.families, bench.split.test) & labelled_members(table, ENERGY).to_numpy()
    common = table["common_name"]
    aside &= (common.str.contains("perovskite") & ~common.str.contains("anti")).to_numpy()
    if not aside.any():
        return np.array([], int)
    family = table.loc[aside, "family"].value_counts().index[0]
    return np.flatnonzero(aside & (bench.families == family))


def episodes(rows: np.ndarray, settings: PropertiesSection, seed: int) -> list[Episode]:
    """Return supports of some of the crystals, and the same query behind all of them."""
    found, feasible = [], [k for k in SHOTS if len(rows) >= k + settings.smallest_query]
    for draw in range(settings.test_draws):
        order = np.random.default_rng([seed, draw]).permutation(rows)
        found += [("", draw, k, order[:k], order[max(feasible) :]) for k in feasible]
    return found


def score_crystals(predictions: Iterator, labels: np.ndarray, ids: Sequence[str]) -> pd.DataFrame:
    """Return scores averaged over draws, one row per crystal; ranks are of a draw's whole query."""
    parts = []
    for (_, _, shots, _, query), method, prediction, half in predictions:
        off = np.abs(prediction - labels[query])
        parts.append(
            pd.DataFrame(
                {
                    "shots": shots,
                    "method": method,
                    "family": np.asarray(ids)[query],
                    "error": off,
                    "spearman": rank_correlation(prediction, labels[query]),
                    "inside": np.nan if half is None else (off <= half).astype(float),
                    "width": np.nan if half is None else 2 * half,
                }
            )
        )
    scores = pd.concat(parts, ignore_index=True)
    return scores.groupby(["shots", "method", "family"], as_index=False).mean()
