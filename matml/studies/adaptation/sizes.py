"""How the error on new families depends on the size of the training set and on time to train.

The test families and their episodes are those of a run. Training crystals are thinned, everything
is trained anew on what is left, and scored. Each part is kept when it is done, so that a stopped
study goes on where it was.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import TABLE, read_table, write_table
from matml.core.provenance import package_hash
from matml.core.standardise import Standardisation
from matml.properties.benchmark.plan import check_made_with
from matml.properties.dataset import EPISODES, Workbench
from matml.properties.evaluation.compare import episode_errors, family_errors
from matml.properties.evaluation.summarise import to_learned_scale
from matml.properties.evaluation.train_and_predict import (
    evaluate_baseline,
    evaluate_stack,
    network_predictions,
    pretrain_member,
)
from matml.properties.methods.registry import STACK
from matml.properties.networks.ensemble import save_network
from matml.properties.settings import PropertiesSection
from matml.studies.adaptation.size_parts import Part

log = logging.getLogger(__name__)

FEWEST_LABELS = 20
"""Training labels of a property below which nothing is learned from a sample."""


def sample(families: np.ndarray, part: Part) -> np.ndarray:
    """Return the positions of the training crystals that a part keeps, sorted.

    Smaller samples of a seed lie within larger ones. Families are taken in random order until
    `fraction` of the crystals is reached.

    Parameters
    ----------
    families
        Family of each training crystal, [n].
    """
    generator = np.random.default_rng([part.seed, 4])
    wanted = max(1, round(part.fraction * len(families)))
    if part.sampling == "crystals":
        return np.sort(generator.permutation(len(families))[:wanted])
    names, family, sizes = np.unique(families, return_inverse=True, return_counts=True)
    order = generator.permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.flatnonzero(np.isin(family, order[before < wanted]))


def thinned(bench: Workbench, part: Part, members: int) -> Workbench:
    """Return the workbench without the labels of the training crystals that a part leaves out.

    Targets are standardised by what is left, as they would be had there been nothing else.

    Raises
    ------
    MatmlError
        Where a property is left with too few labels.
    """
    training = bench.split.training_rows(bench.families)
    training = training[(~np.isnan(bench.labels[training])).any(1)]
    kept = training[sample(bench.families[training], part)]
    labels = bench.labels.copy()
    labels[np.setdiff1d(training, kept)] = np.nan
    count = (~np.isnan(labels[kept])).sum(0)
    if (count < FEWEST_LABELS).any():
        raise MatmlError(
            f"{bench.names[int(count.argmin())]}: {count.min()} training labels are left of "
            f"{part.fraction:.0%} of the training {part.sampling}, fewer than {FEWEST_LABELS}; "
            "give a larger --fraction"
        )
    standardisation = Standardisation.of(labels[kept])
    table = bench.crystals.table.copy()
    table.loc[np.isnan(labels).all(1), bench.names] = np.nan
    return replace(
        bench,
        crystals=replace(bench.crystals, table=table),
        labels=labels,
        targets=standardisation.apply(labels),
        standardisation=standardisation,
        split=replace(bench.split, members=members),
    )


def run_study(
    bench: Workbench,
    run: Path,
    out: Path,
    settings: PropertiesSection,
    parts: Sequence[Part],
    names: Sequence[str],
    *,
    members: int,
    device: str,
    threads: int,
) -> pd.DataFrame:
    """Return the errors on test families of all parts, running those that are not there yet.

    Columns: those of a `Part`; property, labels (training labels of it), method, shots, family,
    error (mean over draws, in the property's error unit), seconds (of processor time, to train).

    Parameters
    ----------
    run
        Folder that `split` wrote.
    names
        Properties to score; the networks learn all.

    Raises
    ------
    MatmlError
        For an unknown property, too few members, or a folder made with something else.
    """
    if unknown := [name for name in names if name not in bench.names]:
        raise MatmlError(f"--property {unknown[0]}: the run learned {', '.join(bench.names)}")
    if members < bench.split.cross_folds:
        raise MatmlError(
            f"--members {members}: fewer than the {bench.split.cross_folds} folds of "
            "cross-fitting, each of which one network leaves out"
        )
    episodes = read_table(run / EPISODES, TABLE)
    episodes = episodes[(episodes["part"] == "test") & episodes["property"].isin(names)]
    made_with = {
        "settings": settings.model_dump(mode="json"),
        "members": members,
        "properties": list(names),
        "test": list(bench.split.test),
        "episodes": len(episodes),
        "crystals": bench.content(),
        "sources": package_hash("properties", "gp", "meta", "structures"),
    }
    check_made_with(out, made_with)
    write_table(out / EPISODES, episodes)
    for number, part in enumerate(parts):
        folder = out / str(part)
        if not (folder / "errors.parquet").exists():
            log.info("part %d of %d: %s", number + 1, len(parts), part)
            _run_part(
                bench,
                out,
                folder,
                settings,
                part,
                names,
                members=members,
                device=device,
                threads=threads,
            )
    tables = [read_table(out / str(part) / "errors.parquet") for part in parts]
    return pd.concat(tables, ignore_index=True)


def _run_part(
    bench: Workbench,
    out: Path,
    folder: Path,
    settings: PropertiesSection,
    part: Part,
    names: Sequence[str],
    *,
    members: int,
    device: str,
    threads: int,
) -> None:
    """Train everything on what a part keeps, and write its errors."""
    own = thinned(bench, part, members)
    # they know of no epochs
    with_baselines = part.epochs == settings.epochs
    settings = settings.model_copy(update={"epochs": part.epochs})
    networks = [folder / f"members/{i}" for i in range(members)]
    training = 0.0
    for member, place in enumerate(networks):
        if not (place / "pretraining.csv").exists():
            begun = time.process_time()
            network, records = pretrain_member(
                own, settings, member=member, seed=part.seed, device=device
            )
            seconds = time.process_time() - begun
            save_network(place / "pretrained.safetensors", network)
            write_table(place / "pretraining.csv", pd.DataFrame(records).assign(seconds=seconds))
        training += float(read_table(place / "pretraining.csv")["seconds"].iloc[0])
    output = network_predictions(own, networks, settings, device)
    episodes = read_table(out / EPISODES)
    tables = []
    for name in names:
        column = own.names.index(name)
        asked = episodes[episodes["property"] == name]
        files = [folder / f"{kind}-{name}.parquet" for kind in ("stack", "baseline")]
        models = [path.with_suffix(".safetensors") for path in files]
        stacking = evaluate_stack(
            own,
            out,
            networks,
            files[0],
            models[0],
            settings,
            name=name,
            seed=part.seed,
            device=device,
        )
        spent = {"pretrained": training, STACK: training + stacking}
        found = [read_table(files[0])]
        if with_baselines:
            fitting = evaluate_baseline(
                own,
                out,
                files[1],
                models[1],
                settings,
                name=name,
                seed=part.seed,
                threads=threads,
            )
            for kind, seconds in fitting.items():
                spent |= {kind: seconds, f"{kind}_gp": seconds}
            found.append(read_table(files[1]))
        plain = [output[np.asarray(rows, int), column] for rows in asked["query"]]
        found.append(
            pd.DataFrame({"episode": asked["episode"], "method": "pretrained", "prediction": plain})
        )
        predictions = to_learned_scale(pd.concat(found, ignore_index=True), asked, own)
        errors = family_errors(episode_errors(asked, predictions, {name: bench.labels[:, column]}))
        training_rows = own.split.training_rows(own.families)
        tables.append(
            errors.assign(
                **asdict(part),
                seconds=errors["method"].map(spent),
                labels=int((~np.isnan(own.targets[training_rows, column])).sum()),
            )
        )
    write_table(folder / "errors.parquet", pd.concat(tables, ignore_index=True))
