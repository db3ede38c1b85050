"""`matml screen`: adapt to the support, score the candidates as they stream by, keep the best."""

import itertools
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import atomic, csv_text, read_json, write_json, write_table
from matml.core.integrity.formats import seal
from matml.core.parallel import Helpers, heartbeat, processors
from matml.core.settings import read_section, validate
from matml.screening.data.known import known_folder
from matml.screening.data.reader import Chunk, read_chunks
from matml.screening.objectives import COST, Objective, parse_objectives, usual_goal
from matml.screening.score.predictor import Predictor
from matml.screening.score.scoring import Job, Scored, Scorer, support_summary
from matml.screening.select.deduplicate import CELLS, mark_copies
from matml.screening.select.layout import DESCRIBED, KEPT, QUARANTINE, SCORES, SHARD, STATE
from matml.screening.select.top_k import Keeper, ScoreWriter, typed
from matml.screening.settings import ScreeningSection
from matml.structures.io.documents import Documents
from matml.structures.settings import TABLE, StructuresSection
from matml.structures.table import QUARANTINE_COLUMNS

log = logging.getLogger(__name__)

FEWEST_CHUNKS = 4
"""Chunks below which starting processes costs more than it saves."""


def objectives_of(settings: ScreeningSection) -> tuple[Objective, ...]:
    """The objectives of the settings; without any, the one that `property` and `goal` say."""
    texts = settings.objectives or [f"{settings.property} {settings.goal}"]
    return tuple(parse_objectives(texts))


def with_options(settings: ScreeningSection, **options: Any) -> ScreeningSection:
    """Settings with the options that were given; `property` or `goal` replace the objectives.

    Of a property that is named without a goal, the usual one is taken where the settings say none.
    """
    given = {name: value for name, value in options.items() if value not in (None, (), [])}
    if ("property" in given or "goal" in given) and "objectives" not in given:
        given["objectives"] = []
        if "goal" not in given and "goal" not in settings.model_fields_set:
            given["goal"] = usual_goal(given["property"])
    values = settings.model_dump() | given
    return validate(ScreeningSection, values, "screening options") if given else settings


def screen_candidates(
    model: Path | None,
    support: Path,
    inputs: tuple[Path, ...],
    known: Path | None,
    known_graphs: Path | None,
    out: Path,
    config: Path | None,
    seed: int,
    threads: int | None,
    device: str,
    shard: int | None = None,
    shards: int | None = None,
    trust_labels: bool = False,
    columns: Sequence[str] = (),
    **options: Any,
) -> None:
    """Run `matml screen`: stream, then finish; one shard only streams.

    Parameters
    ----------
    model, known
        By default what ships with matml.
    columns
        `inputs` of the settings.
    options
        Of the settings: property, goal, objectives, units, rank_by, top, keep, diversity.

    Raises
    ------
    MatmlError
        For unusable support, candidates, property or model.
    """
    from matml.screening.select.shortlist import finish

    settings = with_options(read_section(ScreeningSection, config), inputs=columns, **options)
    shards = shards or 1
    if not 0 <= (shard or 0) < shards:
        raise MatmlError(f"--shard {shard}: must be from 0 to {shards - 1}, for --shards {shards}")
    from matml.properties.predictor.layout import model_folder

    workers, known = processors(threads), known_folder(known)
    job = Job(
        model=model_folder(model),
        support=Path(support),
        known=known,
        known_graphs=known_graphs,
        objectives=objectives_of(settings),
        settings=settings,
        structures=ingest_settings(known),
        load=partial(load_predictor, seed=seed, device=device),
        trust_labels=trust_labels,
        candidates=tuple(map(Path, inputs)),
    )
    said = Documents()
    chunks = read_chunks(
        inputs, job.structures, shard=shard or 0, shards=shards, said=said, columns=settings.inputs
    )
    stream(job, chunks, Path(out), workers, seed, (shard or 0, shards), said)
    if shard is None:
        finish([Path(out)], Path(out))


def load_predictor(model: Path, seed: int, device: str) -> Predictor:
    """The trained few-shot predictor of a folder; torch seeded and kept to one thread.

    Several processes use several processors better than torch's threads do on chunks this small.
    """
    import torch

    from matml.properties.predictor.few_shot import FewShotPredictor

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return FewShotPredictor.load(model, device)


def stream(
    job: Job,
    chunks: Iterator[Chunk],
    out: Path,
    workers: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    said: Documents | None = None,
) -> None:
    """Score all chunks; write `scores.parquet`, `kept.parquet`, `state.json` and the quarantine.

    `shard` is the number of the share and how many there are, `said` what the chunks' reader says.
    """
    start = time.perf_counter()
    counts = {"read": 0}
    with (
        heartbeat(
            lambda: f"{counts.get('read', 0)} candidates in {time.perf_counter() - start:.0f} s"
        ),
        scoring(job, chunks, workers) as (scorer, found),
        atomic(out / SCORES) as scores,
        atomic(out / QUARANTINE) as refused,
        tempfile.TemporaryDirectory(prefix=".cells-", dir=out) as folder,
    ):
        adapted = time.perf_counter()
        held_out = scorer.predictor.held_out_families
        keeper = Keeper(job.settings.keep, scorer.leading, scorer.objectives, held_out)
        counts = keeper.counts
        refused.write_text(csv_text(pd.DataFrame(columns=QUARANTINE_COLUMNS)), encoding="utf-8")
        cells = Path(folder) / "cells.parquet"  # what copies are told from
        writer, cell_writer = ScoreWriter(scores), ScoreWriter(cells, CELLS)
        for scored in found:
            keeper.add(scored)
            writer.write(scored.table)
            cell_writer.write(scored.table)
            if scored.quarantine:
                with refused.open("a", encoding="utf-8") as lines:
                    lines.write(csv_text(pd.DataFrame(scored.quarantine), header=False))
        writer.close()
        cell_writer.close()
        if keeper.counts["ranked"]:
            mark_copies(scores, cells)
        seal(scores)
    seconds = time.perf_counter() - adapted
    kept = keeper.kept()
    if job.settings.stability:
        described = scorer.stability(kept.head(DESCRIBED))
        kept = pd.concat([described, kept.iloc[DESCRIBED:]], ignore_index=True)
    write_table(out / KEPT, typed(kept))
    state = keeper.state() | {
        "objectives": [str(objective) for objective in job.objectives],
        "properties": {name: adapted.item.unit for name, adapted in scorer.adapted.items()}
        | ({} if scorer.prices is None else {COST: scorer.prices.unit}),
        "prices": "" if scorer.prices is None else scorer.prices.source,
        "logarithmic": scorer.logarithmic + ([] if scorer.prices is None else [COST]),
        "methods": {name: adapted.method for name, adapted in scorer.adapted.items()},
        "support": support_summary(scorer.supports, scorer.support_crystals),
        "labels_say": [note for adapted in scorer.adapted.values() for note in adapted.warnings],
        "best_labels": scorer.best,
        "settings": job.settings.model_dump(mode="json"),
        "job": {
            "model": str(job.model),
            "support": str(job.support),
            "known": str(job.known),
            "known_graphs": None if job.known_graphs is None else str(job.known_graphs),
        },
        "ignored": said.ignored if said else [],
        "input_notes": said.notes if said else [],
        "seed": seed,
        "shard": shard[0],
        "shards": shard[1],
        "workers": workers,
        "adaptation_seconds": round(adapted - start, 3),
        "seconds": round(seconds, 3),
    }
    plain = json.loads(pd.Series([state]).to_json(orient="records"))[0]
    write_json(out / STATE, plain, SHARD)
    for note in said.notes if said else []:
        log.info("%s", note)
    if said and said.ignored:
        log.info("files without structures: %d (%s …)", len(said.ignored), said.ignored[0])
    rate = keeper.counts["read"] / seconds
    log.info("%d candidates scored at %.0f/s", keeper.counts["read"], rate)


@contextmanager
def scoring(
    job: Job, chunks: Iterator[Chunk], workers: int
) -> Iterator[tuple[Scorer, Iterator[Scored]]]:
    """The scorer and scored chunks in their order, on several processes where there are many.

    Other processes start while this one prepares itself.
    """
    first = list(itertools.islice(chunks, FEWEST_CHUNKS))
    others = workers - 1 if len(first) == FEWEST_CHUNKS else 0
    with Helpers(others, "screening", _prepare, (job,)) as helpers:
        scorer = Scorer(job)
        yield scorer, helpers.share(_score, itertools.chain(first, chunks), scorer.score)


_scorer: Scorer | None = None
"""Of this process."""


def _prepare(job: Job) -> None:
    global _scorer
    # what there is to say of support and model is said by the main process
    logging.disable(logging.WARNING)
    try:
        _scorer = Scorer(job)
    except MatmlError:
        _scorer = None


def _score(chunk: Chunk) -> Scored:
    assert _scorer is not None
    return _scorer.score(chunk)


def ingest_settings(known: Path) -> StructuresSection:
    """The settings with which the known crystals were ingested, so that prototypes compare."""
    path = Path(known) / "summary.json"
    # other folders have a summary, too; what is wrong with them is told where the crystals are read
    if not path.is_file() or not (Path(known) / TABLE).is_file():
        return StructuresSection()
    values = read_json(path, shape=dict[str, Any]).get("settings", {})
    return validate(StructuresSection, values, f"{path}, settings")
