"""Study: does meta-training on biased episodes pay where the support is biased?

Each member's backbone has not seen the families of its fold, nor those for test and validation.
Fold and test families are dealt into parts; the methods are meta-trained on all parts but one and
tested on that one, so that every family is tested by methods of which no stage has seen it, nor one
of its materials in a slightly other form. Settings are chosen on the validation families. A fold's
family is tested with one member, a test family with each; errors are averaged by family.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from matml.core.errors import MatmlError
from matml.core.folds import deal
from matml.core.statistics import tidy_record
from matml.properties.data.split import Split, same_materials
from matml.properties.data.targets import find_property
from matml.properties.dataset import Workbench
from matml.properties.evaluation.compare import with_interval
from matml.properties.networks.ensemble import load_network
from matml.properties.settings import PropertiesSection
from matml.studies.adaptation.biased_episodes import (
    Pair,
    anion_classes,
    balanced_error,
    collect_pairs,
    draw_biased_episodes,
)
from matml.studies.adaptation.biased_methods import Backbone, BiasedStudy, MemberStudy, Predictor

log = logging.getLogger(__name__)

TITLES = {
    "pretrained": "pre-trained network, no adaptation",
    "fine_tuned": "fine-tuned",
    "gradient_steps": "MAML's inner loop, not meta-trained",
    "residual_gp_ordinary": "GP on residuals, ordinary episodes",
    "residual_gp_biased": "GP on residuals, biased episodes",
    "maml_ordinary": "MAML, ordinary episodes",
    "maml_biased": "MAML, biased episodes",
    "read_out_maml_ordinary": "MAML of the read-out, ordinary",
    "read_out_maml_biased": "MAML of the read-out, biased",
    "anil_ordinary": "ANIL, ordinary episodes",
    "anil_biased": "ANIL, biased episodes",
    "gaussian_head_ordinary": "GP head, ordinary episodes",
    "gaussian_head_biased": "GP head, biased episodes",
}
ALL = "all properties"
OXIDES = "O"


def run_study(
    bench: Workbench,
    folders: Sequence[Path],
    settings: PropertiesSection,
    study: BiasedStudy,
    *,
    device: str = "cpu",
) -> pd.DataFrame:
    """Return the balanced error of every method in every episode, of all members.

    Parameters
    ----------
    folders
        Of the members 0, 1, …, one a fold; each holds `pretrained.safetensors`.

    Returns
    -------
    DataFrame
        member, part, property, family, anion, draw, shots, method, error (standardised).

    Raises
    ------
    MatmlError
        Where too few families have more than one anion class, or members are missing.
    """
    if len(folders) != bench.split.cross_folds:
        raise MatmlError(
            f"--member: {len(folders)} folders are given, training families are dealt into "
            f"{bench.split.cross_folds} folds; give the folder of the first member of each, in "
            "their order"
        )
    classes = anion_classes(bench.crystals.table)
    found = []
    for member, folder in enumerate(folders):
        found += _run_member(bench, folder, settings, study, classes, member, device)
    return pd.concat(found, ignore_index=True)


def _run_member(
    bench: Workbench,
    folder: Path,
    settings: PropertiesSection,
    study: BiasedStudy,
    classes: np.ndarray,
    member: int,
    device: str,
) -> list[pd.DataFrame]:
    """Return the errors of one member, one table per part."""
    table = bench.crystals.table
    seen = set(
        bench.families[
            bench.split.training_rows(bench.families, without_fold=bench.split.fold_of(member))
        ]
    )
    known = other_forms(bench, seen)

    def pairs_of(families: Sequence[str], without: Sequence[str] = ()) -> list[Pair]:
        return collect_pairs(
            table,
            classes,
            families,
            bench.names,
            fewest=min(study.shots),
            smallest_class=study.smallest_class,
            without=[*known, *without],
        )

    unseen = pairs_of([*bench.fold_families(member), *bench.split.test])
    validation = pairs_of(bench.split.validation)
    parts = deal_families(unseen, study.parts, member)
    if not validation:
        raise MatmlError(
            "no validation family has two anion classes with enough labels; lower "
            "--smallest-class or the least of --shots"
        )
    network, _ = load_network(folder / "pretrained.safetensors", bench.recipe(settings))
    rows = np.unique(np.concatenate([r for p in unseen + validation for r in p.classes.values()]))
    backbone = Backbone(network.to(device), bench.batches(device), rows)
    own = MemberStudy(backbone, bench, settings, study, seen, validation, member)
    tuned = chosen_fine_tuning(own, classes)
    found = []
    progress = tqdm(range(study.parts), f"member {member}", unit="part", disable=None, leave=False)
    for part in progress:
        held_out = {family for family, at in parts.items() if at == part}
        others = [family for family, at in parts.items() if at != part]
        training = pairs_of(others, other_forms(bench, held_out))
        if not training:
            raise MatmlError(
                f"member {member}: no family is left to meta-train on for part {part}; "
                "give more labels, or lower --parts"
            )
        methods = {"pretrained": backbone.pretrained, "fine_tuned": tuned}
        methods |= own.learn(training, held_out)
        episodes = draw_biased_episodes(
            [pair for pair in unseen if pair.family in held_out],
            shots=study.shots,
            draws=study.draws,
            seed=study.seed,
        )
        errors = episode_errors(episodes, methods, bench.targets, classes)
        found.append(errors.assign(member=member, part=part))
    return found


def other_forms(bench: Workbench, families: set[str]) -> list[str]:
    """Return ids of crystals outside some families that are a material of them in another form."""
    return same_materials(bench.crystals, Split(tuple(families), (), {}, 1))


def deal_families(pairs: Sequence[Pair], parts: int, member: int) -> dict[str, int]:
    """Return the part of each family; those with most crystals are dealt first.

    Raises
    ------
    MatmlError
        Where there are fewer families than parts.
    """
    sizes: dict[str, int] = {}
    for pair in pairs:
        labels = sum(len(rows) for rows in pair.classes.values())
        sizes[pair.family] = sizes.get(pair.family, 0) + labels
    ordered = sorted(sizes, key=lambda family: (-sizes[family], family))
    if len(ordered) < parts:
        raise MatmlError(
            f"member {member}: {len(ordered)} unseen families have two anion classes with labels "
            f"enough, fewer than the {parts} parts; give more labels, or lower --parts"
        )
    return deal(ordered, parts)


def chosen_fine_tuning(own: MemberStudy, classes: np.ndarray) -> Predictor:
    """Return fine-tuning with the rate and steps that are best on the validation families.

    One choice per property; a property without validation episodes takes the best of all.
    """
    study, settings = own.study, own.settings
    variants: dict[str, Predictor] = {}
    for rate in settings.fine_tuning_learning_rates:
        variants |= own.backbone.fine_tuned(rate, settings.fine_tuning_steps)
    episodes = draw_biased_episodes(
        own.validation, shots=study.shots, draws=study.draws, seed=study.seed + 1
    )
    errors = episode_errors(episodes, variants, own.bench.targets, classes)
    best: dict[int | None, str] = {None: family_mean(errors.assign(property=ALL)).idxmin()[1]}
    for name, group in errors.groupby("property"):
        best[own.bench.names.index(name)] = family_mean(group).idxmin()[1]
    log.info("member %d: fine-tuning chosen: %s", own.member, best)

    def run(supports, queries, column):
        return variants[best.get(column, best[None])](supports, queries, column)

    return run


def family_mean(errors: pd.DataFrame) -> pd.Series:
    """Return the mean over families of a family's mean error, by property and method."""
    own = errors.groupby(["property", "method", "family"])["error"].mean()
    return own.groupby(["property", "method"]).mean()


def episode_errors(
    episodes: pd.DataFrame,
    methods: dict[str, Predictor],
    targets: np.ndarray,
    classes: np.ndarray,
) -> pd.DataFrame:
    """Return the balanced error of each method in each episode, standardised."""
    keys = ["property", "column", "family", "anion", "shots"]
    found = []
    for (name, column, family, anion, shots), group in episodes.groupby(keys, sort=False):
        supports, queries = group["support"].tolist(), group["query"].tolist()
        for method, predictor in methods.items():
            predictions = predictor(supports, queries, column)
            for draw, query, prediction in zip(group["draw"], queries, predictions, strict=True):
                error = balanced_error(prediction, targets[query, column], classes[query])
                found.append((name, family, anion, draw, shots, method, error))
    columns = ["property", "family", "anion", "draw", "shots", "method", "error"]
    return pd.DataFrame(found, columns=columns)


def score(errors: pd.DataFrame, deviations: dict[str, float], seed: int) -> list[dict]:
    """Return tidy records: errors, and paired gains of each method, with intervals over families.

    Metrics: balanced mean absolute error; `gain over …` is the mean over families of the paired
    reduction of the error against the unadapted network, against fine-tuning, against the inner
    loop of MAML that was not meta-trained, and of biased against ordinary meta-training of the
    same method. Over all properties errors are in units of each property's standard deviation over
    the training crystals.

    Parameters
    ----------
    deviations
        Standard deviation of each property, on the learned scale.
    """
    records = []
    for support, chosen in (
        ("one anion", errors),
        ("oxides only", errors[errors["anion"] == OXIDES]),
    ):
        scaled = chosen["error"] * chosen["property"].map(deviations)
        both = pd.concat([chosen.assign(property=ALL), chosen.assign(error=scaled)])
        for (name, shots), group in both.groupby(["property", "shots"]):
            by_family = group.pivot_table(index="family", columns="method", values="error")
            unit = "standardised" if name == ALL else find_property(name).error_unit or "-"
            for method in [m for m in TITLES if m in by_family]:
                references = {"": 0.0} | {
                    f"gain over {title}": by_family[other]
                    for other, title in (
                        ("pretrained", "unadapted"),
                        ("fine_tuned", "fine-tuned"),
                        ("gradient_steps", "inner loop"),
                        (method.replace("_biased", "_ordinary"), "ordinary meta-training"),
                    )
                    if other != method and other in by_family
                }
                for gain, reference in references.items():
                    values = by_family[method] if not gain else reference - by_family[method]
                    records.append(
                        tidy_record(
                            "biased support, balanced query",
                            f"{support} / {name}",
                            method,
                            f"{gain or 'balanced mean absolute error'} ({unit})",
                            values.to_numpy(),
                            shots=shots,
                            is_default=False,
                            seed=seed,
                            interval_seed=seed,
                        )
                    )
    return records


def describe(records: Sequence[dict]) -> str:
    """Return the records as a table for people."""
    lines = []
    table = pd.DataFrame(records)
    table["kind"] = [metric.partition(" (")[0] for metric in table["metric"]]
    kinds = [
        f"gain over {name}"
        for name in ("unadapted", "fine-tuned", "inner loop", "ordinary meta-training")
    ]
    order = sorted(table["setting"].unique(), key=lambda name: (ALL not in name, name))
    for setting in order:
        own = table[table["setting"] == setting]
        unit = own["metric"].iloc[0].partition(" (")[2][:-1]
        for shots, group in own.groupby("shots"):
            lines.append(
                f"{setting}, {shots} shots, {group['n_tasks'].iloc[0]} families (unit: {unit})"
            )
            lines.append(f"  {'':36}{'balanced error':>23}" + "".join(f"{k:>35}" for k in kinds))
            for method, rows in group.groupby("method", sort=False):
                rows = rows.set_index("kind")
                told = {
                    kind: with_interval(row.value, row.low, row.high, f"{'+' * (kind in kinds)}.3f")
                    for kind, row in rows.iterrows()
                }
                cells = [told.get(kind, "") for kind in ("balanced mean absolute error", *kinds)]
                lines.append(
                    f"  {TITLES[method]:36}{cells[0]:>23}" + "".join(f"{c:>35}" for c in cells[1:])
                )
            lines.append("")
    return "\n".join(lines).rstrip()
