"""The stages of `matml properties`: each reads files, does one thing, and writes files."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.core.errors import MatmlError
from matml.core.files import TABLE, read_table, write_table
from matml.meta.distributed import Processes
from matml.properties.baselines.tabular import fit_baseline, save_baselines
from matml.properties.data.descriptors import describe
from matml.properties.dataset import EPISODES, Workbench
from matml.properties.methods.encoded import EncodedCrystals, encode
from matml.properties.methods.make import make
from matml.properties.methods.method import Episode, FineTuning, Method, Trained
from matml.properties.methods.registry import (
    DESCRIPTORS,
    FINE_TUNED,
    MEMBER,
    STACK,
    names_of,
)
from matml.properties.networks.adaptation import learn_residual_gps
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import (
    Member,
    load_member,
    load_network,
    save_network,
    save_residual_gps,
    to_device,
)
from matml.properties.networks.metatrain import ALL_METHODS, METHODS, member_training, metatrain
from matml.properties.networks.pretrain import Pretraining, pretrain
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.fit import fit_stack, network_predictions

log = logging.getLogger(__name__)


def pretrain_member(
    bench: Workbench,
    settings: PropertiesSection,
    *,
    member: int,
    seed: int,
    device: str,
    checkpoint: Path | None = None,
) -> tuple[CrystalNetwork, list[dict[str, float]]]:
    """Return one network, pre-trained without the families of its fold, and its history."""
    settings.check_device(device)
    torch.manual_seed(seed * 1000 + member)
    network = bench.recipe(settings).build().to(device)
    own = Pretraining(
        weights=tuple(settings.properties[name] for name in bench.names),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=seed * 1000 + member,
        mixed_precision=settings.mixed_precision,
    )
    labelled = (~np.isnan(bench.targets)).any(1)
    rows = bench.split.training_rows(bench.families, without_fold=bench.split.fold_of(member))
    validation = np.flatnonzero(np.isin(bench.families, bench.split.validation) & labelled)
    records = pretrain(
        network,
        bench.batches(device),
        rows[labelled[rows]],
        own,
        validation_rows=validation.tolist(),
        checkpoint=checkpoint,
        title=f"member {member}: pre-training",
    )
    return network, records


def train_member(
    bench: Workbench,
    out: Path,
    settings: PropertiesSection,
    *,
    member: int,
    seed: int,
    device: str,
) -> None:
    """Pre-train one member without the families of its fold, and learn its residual models.

    Of several processes, started by `torchrun`, the first writes.
    """
    started = time.perf_counter()
    if not 0 <= member < bench.split.members:
        raise MatmlError(
            f"--member {member}: the split has the members 0 to {bench.split.members - 1}"
        )
    checkpoint = out / "pretraining-checkpoint.safetensors"
    network, records = pretrain_member(
        bench, settings, member=member, seed=seed, device=device, checkpoint=checkpoint
    )
    if not Processes.of_this_run().first:
        return
    tasks = bench.tasks(bench.fold_families(member), settings, device)
    save_residual_gps(
        out / "residual_gp.safetensors",
        learn_residual_gps(network, tasks, len(bench.names), seed=seed),
    )
    save_network(out / "pretrained.safetensors", network)
    table = pd.DataFrame(records).assign(stage="pretraining", member=member)
    write_table(out / "pretraining.csv", table)
    checkpoint.unlink(missing_ok=True)
    log.info("member %d: pre-trained in %.0f s", member, time.perf_counter() - started)


def metatrain_member(
    bench: Workbench,
    pretrained: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    member: int,
    seed: int,
    device: str,
    methods: Sequence[str] = tuple(METHODS),
) -> None:
    """Meta-train one member, by each method, on families that its pre-training left out.

    Of several processes, started by `torchrun`, the first writes.
    """
    recipe = bench.recipe(settings)
    tasks = bench.tasks(bench.fold_families(member), settings, device)
    validation = bench.tasks(list(bench.split.validation), settings, device)
    if not tasks.members or not validation.members:
        raise MatmlError(
            f"member {member}: no family has {settings.smallest_task} labelled crystals of one "
            "property; lower `smallest_task`, or give more labels"
        )
    seen = set(
        bench.families[
            bench.split.training_rows(bench.families, without_fold=bench.split.fold_of(member))
        ]
    )
    records = []
    for method in methods:
        started = time.perf_counter()
        network, inner = load_network(pretrained / "pretrained.safetensors", recipe, method)
        network.to(device)
        inner.to(device)
        checkpoint = out / f"{method}-checkpoint.safetensors"
        own = member_training(settings, member, seed)
        history = metatrain(
            network,
            inner,
            method,
            tasks,
            validation,
            own,
            seen_families=seen,
            checkpoint=checkpoint,
            made_with=[tasks.content(), validation.content()],
            title=f"member {member}: {method}",
        )
        if not Processes.of_this_run().first:
            continue
        save_network(out / f"{method}.safetensors", network, inner)
        checkpoint.unlink(missing_ok=True)
        record = asdict(history)
        log.info(
            "member %d, %s: validation loss %.4f -> %.4f (best after %d batches), %.0f s",
            member,
            method,
            history.validation_loss[0],
            min(history.validation_loss),
            history.best_batch,
            time.perf_counter() - started,
        )
        records.append(
            pd.DataFrame(
                {
                    "epoch": record["batch"],
                    "train_loss": record["train_loss"],
                    "validation_loss": record["validation_loss"],
                    "stage": method,
                    "member": member,
                }
            )
        )
    if records:
        write_table(out / "metatraining.csv", pd.concat(records, ignore_index=True))


def evaluate_member(
    bench: Workbench,
    run: Path,
    folder: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    member: int,
    shard: int,
    shards: int,
    device: str,
    methods: Sequence[str] = tuple(METHODS),
    fine_tune: bool = True,
    names: Sequence[str] = (),
) -> None:
    """Predict every `shards`-th task's episodes with one member, adapted in each way.

    Predictions are on the standardised scale. Sharding lets many processors share the work.

    Parameters
    ----------
    methods
        Of meta-training, those that the member was meta-trained by.
    fine_tune
        Whether to fine-tune too, which takes longest.
    names
        Properties whose episodes are predicted; all by default.
    """
    if not 0 <= shard < shards:
        raise MatmlError(f"--shard {shard}: must be from 0 to {shards - 1}, for --shards {shards}")
    trained = to_device(load_member(folder, bench.recipe(settings), methods), device)
    episodes = read_table(run / EPISODES, TABLE)
    if names:
        episodes = episodes[episodes["property"].isin(names)]
    # a family's draws stay together, since they are adapted to at once
    episodes = episodes[episodes.groupby(["property", "family"]).ngroup() % shards == shard]
    variants = [
        FineTuning(rate, steps)
        for rate in (settings.fine_tuning_learning_rates if fine_tune else [])
        for steps in settings.fine_tuning_steps
    ]
    without = {*ALL_METHODS} - {*methods} | (set() if variants else {FINE_TUNED})
    wanted = [name for name in names_of(MEMBER) if name not in without]
    found: list[tuple[int, str, np.ndarray]] = []
    for name in bench.names:
        own = episodes[episodes["property"] == name]
        if own.empty:
            continue
        parts = Trained(bench.names.index(name), [trained], device, variants)
        made = [make(method, parts) for method in wanted]
        found += _predict_all(bench, made, own, [trained], f"member {member}, {name}")
    write_table(out, pd.DataFrame(found, columns=["episode", "method", "prediction"]))


def _predict_all(
    bench: Workbench,
    methods: Sequence[Method],
    episodes: pd.DataFrame,
    members: Sequence[Member],
    title: str,
) -> list[tuple[int, str, np.ndarray]]:
    """Return episode, method and prediction of all episodes of one property, standardised.

    Parameters
    ----------
    members
        By which the crystals are encoded, as the methods want it.
    """
    rows, pools = _pools(bench, episodes, methods[0].column)
    encoded = encode(bench.crystals.subset(rows), members, methods[0].device)
    found = []
    started, said = time.perf_counter(), 0.0
    for number, (pool, numbers, drawn) in enumerate(pools):
        crystals = encoded[np.searchsorted(rows, pool)]
        for method in methods:
            for name, several in method.predict_episodes(crystals, drawn).items():
                found += [(e, name, mean) for e, mean in zip(numbers, several, strict=True)]
        if time.perf_counter() - started > said + 20:
            said = time.perf_counter() - started
            log.info("%s: %d of %d families", title, number + 1, len(pools))
    return found


def _pools(
    bench: Workbench, episodes: pd.DataFrame, column: int
) -> tuple[np.ndarray, list[tuple[np.ndarray, list[int], list[Episode]]]]:
    """Return all rows that the episodes of one property name, and each family's part.

    A part is the rows of its crystals, the numbers of its episodes, and the episodes with rows
    counted among those.
    """
    parts = []
    for _, group in episodes.groupby("family", sort=False):
        pool = np.unique(np.concatenate([*group["query"], *group["support"]]).astype(int))
        drawn = [
            Episode(
                np.searchsorted(pool, support),
                bench.targets[support, column],
                np.searchsorted(pool, np.asarray(query, int)),
            )
            for support, query in zip(
                (np.asarray(rows, int) for rows in group["support"]), group["query"], strict=True
            )
        ]
        parts.append((pool, group["episode"].tolist(), drawn))
    if not parts:
        return np.zeros(0, int), []
    return np.unique(np.concatenate([pool for pool, _, _ in parts])), parts


def evaluate_baseline(
    bench: Workbench,
    run: Path,
    out: Path,
    model_out: Path,
    settings: PropertiesSection,
    *,
    name: str,
    seed: int,
    threads: int,
) -> dict[str, float]:
    """Predict every episode of one property with the baselines; standardised scale.

    Returns the processor seconds of fitting each.
    """
    if name not in bench.names:
        raise MatmlError(f"--property {name}: the split was made for {', '.join(bench.names)}")
    column = bench.names.index(name)
    features = describe(bench.crystals)
    training = bench.split.training_rows(bench.families)
    training = training[~np.isnan(bench.targets[training, column])]
    shots = [k for k in settings.shots if k > 0]
    fitted, seconds = {}, {}
    for kind in ("extra_trees", "global_gp"):
        started, busy = time.perf_counter(), time.process_time()
        fitted[kind] = fit_baseline(
            kind,
            features[training],
            bench.targets[training, column],
            bench.families[training],
            trees=settings.trees,
            gp_subset=settings.gp_subset,
            gp_steps=settings.gp_steps,
            gp_exact_up_to=settings.gp_exact_up_to,
            shots=shots,
            seed=seed,
            threads=threads,
        )
        seconds[kind] = time.process_time() - busy
        log.info("%s, %s: fitted in %.0f s", name, kind, time.perf_counter() - started)
    episodes = read_table(run / EPISODES, TABLE)
    parts = Trained(column, baseline=fitted.__getitem__)
    made = [make(method, parts) for method in names_of(DESCRIPTORS)]
    found = _predict_all(bench, made, episodes[episodes["property"] == name], [], name)
    save_baselines(model_out, fitted)
    write_table(out, pd.DataFrame(found, columns=["episode", "method", "prediction"]))
    return seconds


def evaluate_stack(
    bench: Workbench,
    run: Path,
    members: Sequence[Path],
    out: Path,
    model_out: Path,
    settings: PropertiesSection,
    *,
    name: str,
    seed: int,
    device: str,
) -> float:
    """Fit the stack of one property and predict its episodes; standardised scale.

    Returns the processor seconds of fitting.
    """
    if name not in bench.names:
        raise MatmlError(f"--property {name}: the split was made for {', '.join(bench.names)}")
    started, busy = time.perf_counter(), time.process_time()
    column = bench.names.index(name)
    inputs = Inputs(describe(bench.crystals), network_predictions(bench, members, settings, device))
    fitted = fit_stack(bench, inputs, column, settings, seed=seed)
    seconds = time.process_time() - busy
    log.info("%s: stack fitted in %.0f s", name, time.perf_counter() - started)
    method = make(STACK, Trained(column, stack=lambda: fitted))
    episodes = read_table(run / EPISODES, TABLE)
    found = []
    _, pools = _pools(bench, episodes[episodes["property"] == name], column)
    for pool, numbers, drawn in pools:
        # no member has seen these families, so that predictions are the mean of all
        crystals = EncodedCrystals(
            bench.crystals.subset(pool),
            inputs.descriptors[pool],
            np.zeros((1, len(pool), 0)),
            inputs.predictions[None, pool],
            np.zeros(len(pool)),
        )
        for number, episode, (mean, deviation) in zip(
            numbers, drawn, method.over(crystals).predict(drawn), strict=True
        ):
            near = np.zeros(len(mean))
            half_width = method.half_width(deviation, len(episode.labels), near)
            found.append((number, STACK, mean, half_width))
    fitted.save(model_out)
    columns = ["episode", "method", "prediction", "half_width"]
    write_table(out, pd.DataFrame(found, columns=columns))
    return seconds
