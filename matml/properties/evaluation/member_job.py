"""One long job a member of the ensemble, from pre-training to the predictions of all episodes.

A job that was killed goes on where it was: its networks and checkpoints are kept beside the
results until it is done.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.files import move, read_table, resumable, write_table
from matml.meta.distributed import Processes
from matml.properties.dataset import Workbench
from matml.properties.evaluation.layout import (
    METATRAINING,
    PRETRAINING,
    member_folder,
    predictions_of,
)
from matml.properties.evaluation.train_and_predict import (
    evaluate_member,
    metatrain_member,
    train_member,
)
from matml.properties.networks.metatrain import METHODS
from matml.properties.settings import PropertiesSection

PREDICTIONS = "predictions.parquet"
HISTORY = ["epoch", "train_loss", "validation_loss", "stage", "member"]


def member_job(
    bench: Workbench,
    run: Path,
    settings: PropertiesSection,
    *,
    member: int,
    seed: int,
    device: str,
    made_with: dict[str, Any],
    methods: Sequence[str] = tuple(METHODS),
    fine_tune: bool = True,
    names: Sequence[str] = (),
) -> None:
    """Pre-train and meta-train one member of a run, and predict all episodes with it.

    Processes started by `torchrun` share the training; the first alone goes on from there.

    Parameters
    ----------
    run
        Folder that `split` wrote; gets `members/<member>` and the table of predictions.
    made_with
        What the result depends on, to tell whether a killed job can be continued.
    """
    own: dict[str, Any] = {"member": member, "seed": seed, "device": device}
    if not Processes.of_this_run().first:
        _train(bench, unfinished(run, member), settings, methods, **own)
        return
    with resumable(unfinished(run, member), made_with) as work:
        _train(bench, work, settings, methods, **own)
        histories = [read_table(work / f"history-{method}.csv") for method in methods]
        history = pd.concat(histories or [pd.DataFrame(columns=HISTORY)], ignore_index=True)
        write_table(work / METATRAINING, history)
        table = work / PREDICTIONS
        evaluate_member(
            bench,
            run,
            work,
            table,
            settings,
            member=member,
            shard=0,
            shards=1,
            device=device,
            methods=methods,
            fine_tune=fine_tune,
            names=names,
        )
        keep(work, member_folder(run, member))
        out = predictions_of(run, "member", member)
        out.parent.mkdir(parents=True, exist_ok=True)
        move(table, out)


def unfinished(run: Path, member: int) -> Path:
    """Return where a member is while it is trained."""
    return run / f".unfinished/member-{member}"


def pretrain_once(bench: Workbench, work: Path, settings: PropertiesSection, **own: Any) -> None:
    """Pre-train a member where that is not done."""
    if Processes.of_this_run().of_first(not (work / PRETRAINING).exists()):
        train_member(bench, work, settings, **own)


def _train(
    bench: Workbench, work: Path, settings: PropertiesSection, methods: Sequence[str], **own: Any
) -> None:
    """Pre-train and meta-train a member, where that is not done."""
    processes = Processes.of_this_run()
    pretrain_once(bench, work, settings, **own)
    for method in methods:
        history = work / f"history-{method}.csv"
        if processes.of_first(not history.exists()):
            metatrain_member(bench, work, work, settings, methods=[method], **own)
            if processes.first:
                move(work / METATRAINING, history)


def keep(work: Path, out: Path) -> None:
    """Move what is finished to the folder of the member."""
    out.mkdir(parents=True, exist_ok=True)
    # the history of pre-training goes first: a member without it is trained anew
    for path in [work / PRETRAINING, *work.glob("*.safetensors"), *work.glob(METATRAINING)]:
        move(path, out / path.name)
