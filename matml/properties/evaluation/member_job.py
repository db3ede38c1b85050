"""One long job a member of the ensemble, from pre-training to the predictions of all episodes.

A job that was killed goes on where it was: its networks and checkpoints are kept beside the
results until it is done.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.files import move, read_table, resumable, write_table
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

    Parameters
    ----------
    run
        Folder that `split` wrote; gets `members/<member>` and the table of predictions.
    made_with
        What the result depends on, to tell whether a killed job can be continued.
    """
    own: dict[str, Any] = {"member": member, "seed": seed, "device": device}
    with resumable(unfinished(run, member), made_with) as work:
        pretrain_once(bench, work, settings, **own)
        histories = [pd.DataFrame(columns=HISTORY)]
        for method in methods:
            history = work / f"history-{method}.csv"
            if not history.exists():
                metatrain_member(bench, work, work, settings, methods=[method], **own)
                move(work / METATRAINING, history)
            histories.append(read_table(history))
        history = pd.concat(histories[1:] or histories, ignore_index=True)
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
    if not (work / PRETRAINING).exists():
        train_member(bench, work, settings, **own)


def keep(work: Path, out: Path) -> None:
    """Move what is finished to the folder of the member."""
    out.mkdir(parents=True, exist_ok=True)
    # the history of pre-training goes first: a member without it is trained anew
    for path in [work / PRETRAINING, *work.glob("*.safetensors"), *work.glob(METATRAINING)]:
        move(path, out / path.name)
