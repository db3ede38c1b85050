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
from matml.core.files import read_table, write_table
from matml.properties.baselines.linear_probe import adapt_global_gp
from matml.properties.baselines.tabular import fit_baseline, save_baselines
from matml.properties.data.dataset import EPISODES, Workbench
from matml.properties.data.descriptors import describe
from matml.properties.networks.adaptation import (
    fine_tuned_weights,
    fine_tuning_name,
    learn_residual_gps,
    meta_learned_weights,
    predict_many,
    residual_gp_correction,
)
from matml.properties.networks.closed_form import ClosedHead
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import (
    HEADS,
    load_member,
    load_network,
    save_network,
    save_residual_gps,
    to_device,
)
from matml.properties.networks.metatrain import METHODS, episode_batch, member_training, metatrain
from matml.properties.networks.pretrain import Pretraining, embed, predict, pretrain
from matml.properties.settings import PropertiesSection

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
    torch.manual_seed(seed * 1000 + member)
    network = bench.recipe(settings).build().to(device)
    own = Pretraining(
        weights=tuple(settings.properties[name] for name in bench.names),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=seed * 1000 + member,
    )
    labelled = (~np.isnan(bench.targets)).any(1)
    rows = bench.split.training_rows(bench.families, without_fold=bench.split.fold_of(member))
    validation = np.flatnonzero(np.isin(bench.families, bench.split.validation) & labelled)
    records = pretrain(
        network,
        bench.batches(device),
        rows[labelled[rows]],
        own,
        validation_rows=validation,
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
    """Pre-train one member without the families of its fold, and learn its residual models."""
    started = time.perf_counter()
    if not 0 <= member < bench.split.members:
        raise MatmlError(
            f"--member {member}: the split has the members 0 to {bench.split.members - 1}"
        )
    checkpoint = out / "pretraining-checkpoint.safetensors"
    network, records = pretrain_member(
        bench, settings, member=member, seed=seed, device=device, checkpoint=checkpoint
    )
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
    """Meta-train one member, by each method, on families that its pre-training left out."""
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
            title=f"member {member}: {method}",
        )
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
    recipe = bench.recipe(settings)
    trained = to_device(load_member(folder, recipe, methods), device)
    batches = bench.batches(device)
    episodes = read_table(run / EPISODES)
    if names:
        episodes = episodes[episodes["property"].isin(names)]
    # a family's draws stay together, since they are adapted to at once
    episodes = episodes[episodes.groupby(["property", "family"]).ngroup() % shards == shard]
    rows = np.unique(np.concatenate([*episodes["query"], *episodes["support"]]).astype(int))
    output = np.full(bench.targets.shape, np.nan)
    output[rows] = predict(trained.pretrained, batches, rows)
    unadapted, heads = {}, {}
    for method, (network, inner) in trained.meta_trained.items():
        if method in HEADS:
            heads[method] = ClosedHead(network, inner, batches, rows)
        unadapted[method] = np.full(bench.targets.shape, np.nan)
        unadapted[method][rows] = predict(network, batches, rows)
    embeddings = np.zeros((len(bench.crystals), settings.width), np.float32)
    embeddings[rows] = embed(trained.pretrained, batches, rows)

    found = []
    groups = list(episodes.groupby(["property", "family", "shots"], sort=False))
    started, said = time.perf_counter(), 0.0
    for number, ((name, _, shots), group) in enumerate(groups):
        column = bench.names.index(name)
        supports = [np.asarray(rows, int) for rows in group["support"]]
        queries = [np.asarray(rows, int) for rows in group["query"]]
        plain = [output[query, column] for query in queries]
        predictions = {"pretrained": plain, "network_gp": plain}
        for method in methods:
            predictions[method] = [unadapted[method][query, column] for query in queries]
        variants = [
            fine_tuning_name(rate, steps)
            for rate in (settings.fine_tuning_learning_rates if fine_tune else [])
            for steps in settings.fine_tuning_steps
        ]
        predictions |= dict.fromkeys(variants, plain)
        if shots:
            if set(methods) - set(heads) or fine_tune:
                support_data = [episode_batch(batches, rows, column) for rows in supports]
                query_data = [batches.batch(rows) for rows in queries]
            predictions["network_gp"] = [
                before
                + residual_gp_correction(
                    trained,
                    column,
                    embeddings[support],
                    bench.targets[support, column] - output[support, column],
                    embeddings[query],
                )
                for before, support, query in zip(plain, supports, queries, strict=True)
            ]
            for method, head in heads.items():
                predictions[method] = [
                    head.predict(support, query, column)
                    for support, query in zip(supports, queries, strict=True)
                ]
            for method in [m for m in methods if m not in heads]:
                network, _ = trained.meta_trained[method]
                weights = meta_learned_weights(trained, method, support_data)
                predictions[method] = predict_many(network, weights, query_data, column)
            for rate in settings.fine_tuning_learning_rates if fine_tune else []:
                tuned = fine_tuned_weights(
                    trained.pretrained,
                    support_data,
                    learning_rate=rate,
                    checkpoints=settings.fine_tuning_steps,
                )
                for steps, weights in tuned.items():
                    predictions[fine_tuning_name(rate, steps)] = predict_many(
                        trained.pretrained, weights, query_data, column
                    )
        found += [
            (episode, method, np.asarray(values, float))
            for method, several in predictions.items()
            for episode, values in zip(group["episode"], several, strict=True)
        ]
        if time.perf_counter() - started > said + 20:
            said = time.perf_counter() - started
            log.info("member %d: %d of %d tasks", member, number + 1, len(groups))
    write_table(out, pd.DataFrame(found, columns=["episode", "method", "prediction"]))


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
            shots=shots,
            seed=seed,
            threads=threads,
        )
        seconds[kind] = time.process_time() - busy
        log.info("%s, %s: fitted in %.0f s", name, kind, time.perf_counter() - started)
    episodes = read_table(run / EPISODES)
    own = episodes[episodes["property"] == name]
    rows = np.unique(np.concatenate([*own["query"], *own["support"], [0]]).astype(int))
    zero_shot = {kind: np.full(len(features), np.nan) for kind in fitted}
    for kind, baseline in fitted.items():
        zero_shot[kind][rows] = baseline.predict(features[rows])
    adapted = adapt_global_gp(fitted["global_gp"].model, features, bench.targets[:, column], own)
    found = []
    for episode in own.itertuples():
        support, query = np.asarray(episode.support, int), np.asarray(episode.query, int)
        labels = bench.targets[support, column]
        mean = labels.mean() if len(labels) else 0.0
        predictions = {"support_mean": np.full(len(query), mean)}
        for kind, baseline in fitted.items():
            plain = zero_shot[kind][query]
            residuals = labels - zero_shot[kind][support]
            predictions[kind] = plain
            predictions[f"{kind}_gp"] = plain
            if len(support):
                correction, _ = baseline.residual_gp.correct(
                    features[support], residuals, features[query]
                )
                predictions[f"{kind}_gp"] = plain + correction
        predictions["global_gp"] = adapted[episode.episode]
        found += [(episode.episode, m, np.asarray(p, float)) for m, p in predictions.items()]
    save_baselines(model_out, fitted)
    write_table(out, pd.DataFrame(found, columns=["episode", "method", "prediction"]))
    return seconds
