"""Forgetting: a network adapts to one unseen family after another, each from where the last ended.

Asked from two starts, the meta-learned and the conventionally pre-trained one, and with two rules,
so that each start meets each rule: the meta-learned inner loop, and Adam on all weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

from matml.core.errors import MatmlError
from matml.meta import Diverged, Parameters
from matml.meta.tasks import BoundModel
from matml.meta.vectorised import repeat_weights
from matml.properties.data.batches import CrystalBatch
from matml.properties.data.split import labelled_members
from matml.properties.dataset import Workbench
from matml.properties.networks.adaptation import fine_tuned_weights, gradient_step_weights
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import Member, load_member
from matml.properties.networks.metatrain import episode_batch
from matml.properties.settings import PropertiesSection

TOGETHER = 4
"""Orders whose weights are stacked."""

STARTS = {"maml": "meta-learned", "pretrained": "pre-trained"}
RULES = {"inner": "inner loop", "adam": "Adam"}


@dataclass(frozen=True)
class Way:
    """From which weights, by which rule and with how many steps a family each network adapts."""

    start: str
    rule: str
    steps: int

    def __str__(self) -> str:
        return f"{STARTS[self.start]} start, {RULES[self.rule]}, {self.steps} steps"


@dataclass
class Outcome:
    """What was measured along several orders of families; means over members.

    Attributes
    ----------
    families
        Family adapted to at each place, [orders, turns].
    error
        Mean absolute error on each place's query after each number of families, in the property's
        error unit, [orders, turns + 1, turns].
    retained
        The same on crystals of pre-training, [orders, turns + 1].
    distance, relative_distance
        Euclidean distance of all weights from the start, and over the start's norm,
        [orders, turns + 1].
    """

    families: np.ndarray
    error: np.ndarray
    retained: np.ndarray
    distance: np.ndarray
    relative_distance: np.ndarray


def unseen_families(bench: Workbench, name: str, smallest: int) -> dict[str, np.ndarray]:
    """Return the labelled rows of each test family with at least `smallest` of them.

    Raises
    ------
    MatmlError
        Where there are fewer than two such families.
    """
    labelled = labelled_members(bench.crystals.table, name).to_numpy()
    rows = {f: np.flatnonzero(labelled & (bench.families == f)) for f in bench.split.test}
    found = {family: own for family, own in rows.items() if len(own) >= smallest}
    if len(found) < 2:
        raise MatmlError(
            f"{name}: {len(found)} test families have {smallest} labels, and a study takes two or "
            "more; lower the number of shots, or choose another property"
        )
    return found


def property_column(bench: Workbench, name: str) -> int:
    """Return the number of a property among the networks' outputs."""
    if name not in bench.names:
        raise MatmlError(f"property {name!r}: the run learned {', '.join(bench.names)}")
    return bench.names.index(name)


@dataclass(frozen=True)
class Turn:
    """One family's place in an order: what is adapted to, and the crystals held out from it."""

    family: str
    support: np.ndarray
    query: np.ndarray


def draw_orders(
    families: dict[str, np.ndarray],
    *,
    shots: int,
    orders: int,
    length: int,
    most_queries: int,
    seed: int,
) -> list[list[Turn]]:
    """Return random orders of at most `length` families, each with its support and query."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(orders):
        chosen = generator.permutation(sorted(families))[:length].tolist()
        shuffled = {family: generator.permutation(families[family]) for family in chosen}
        found.append(
            [Turn(f, own[:shots], own[shots : shots + most_queries]) for f, own in shuffled.items()]
        )
    return found


def follow(
    network: CrystalNetwork,
    orders: Sequence[Sequence[Turn]],
    adapt: Callable[[Parameters, Sequence[np.ndarray]], Parameters],
    evaluate: Callable[[Parameters, int], tuple[np.ndarray, float]],
) -> Outcome:
    """Return what happens while the network adapts along each order, all orders at once.

    Parameters
    ----------
    adapt
        From stacked weights [orders, ...] and each order's support rows to the adapted weights.
    evaluate
        From the weights of one order and its number to the errors on all its queries, [turns], and
        on the crystals of pre-training.
    """
    count, turns = len(orders), len(orders[0])
    start = {name: weight.detach() for name, weight in network.named_parameters()}
    norm = torch.stack([weight.square().sum() for weight in start.values()]).sum().sqrt().item()
    error = np.empty((count, turns + 1, turns))
    retained, distance = np.empty((count, turns + 1)), np.empty((count, turns + 1))
    weights = repeat_weights(start, count)
    for after in range(turns + 1):
        if after:
            weights = adapt(weights, [order[after - 1].support for order in orders])
        first, *others = ((w - start[n]).square().flatten(1).sum(1) for n, w in weights.items())
        moved = sum(others, first)
        distance[:, after] = moved.sqrt().cpu().numpy()
        for number in range(count):
            own = {name: weight[number] for name, weight in weights.items()}
            error[number, after], retained[number, after] = evaluate(own, number)
    families = np.array([[turn.family for turn in order] for order in orders])
    return Outcome(families, error, retained, distance, distance / norm)


def study(
    bench: Workbench,
    folders: Sequence[Path],
    settings: PropertiesSection,
    name: str,
    *,
    shots: int,
    steps: Sequence[int],
    orders: int,
    length: int,
    most_queries: int = 20,
    retained: int = 100,
    seed: int = 0,
    device: str = "cpu",
) -> dict[Way, Outcome]:
    """Return the outcome of each way to adapt, for one property.

    Parameters
    ----------
    folders
        Folders of the ensemble's members; errors and distances are averaged over them.
    steps
        Steps on each family; the rates of the inner loop and of Adam are the run's.
    orders, length
        Number of orders, and of families in each (fewer where there are not as many).
    retained
        Crystals of each member's pre-training whose error is followed.
    """
    column = property_column(bench, name)
    families = unseen_families(bench, name, shots + settings.smallest_query)
    drawn = draw_orders(
        families, shots=shots, orders=orders, length=length, most_queries=most_queries, seed=seed
    )
    recipe, batches = bench.recipe(settings), bench.batches(device)
    ways = [Way(start, rule, n) for n in steps for rule in RULES for start in STARTS]
    outcomes: dict[Way, list[Outcome]] = {way: [] for way in ways}
    labelled = labelled_members(bench.crystals.table, name).to_numpy()
    progress = tqdm(total=len(folders) * len(ways), desc=name, disable=None, leave=False)
    for number, folder in enumerate(folders):
        member = load_member(folder, recipe, ["maml"])
        trained = bench.split.training_rows(bench.families, without_fold=_fold(folder, bench))
        trained = trained[labelled[trained]]
        known = np.random.default_rng([seed, number]).permutation(trained)[:retained]
        evaluate = _evaluator(bench, batches, column, drawn, known, member.pretrained)
        for way in ways:
            network, adapt = _rule(member, way, batches, column, settings)
            try:
                outcomes[way].append(follow(network.to(device), drawn, adapt, evaluate))
            except Diverged as error:
                raise MatmlError(f"{name}, {way}, {folder}: {error}") from None
            progress.update()
    progress.close()
    return {way: _mean(several) for way, several in outcomes.items()}


def _fold(folder: Path, bench: Workbench) -> int:
    """Return the fold that a member was pre-trained without, which its number tells."""
    if not folder.name.isdigit() or int(folder.name) >= bench.split.members:
        raise MatmlError(
            f"--member {folder}: the folder's name must be the member's number, from 0 to "
            f"{bench.split.members - 1}, since it tells which families its pre-training saw"
        )
    return bench.split.fold_of(int(folder.name))


def _rule(
    member: Member, way: Way, batches, column: int, settings: PropertiesSection
) -> tuple[CrystalNetwork, Callable]:
    """Return the network to start from and how stacked weights adapt."""
    meta_learned, inner = member.meta_trained["maml"]
    network = meta_learned if way.start == "maml" else member.pretrained
    inner.to(batches.device)

    def some(weights: Parameters, data: Sequence[CrystalBatch]) -> Parameters:
        options: dict[str, Any] = {"checkpoints": [way.steps], "start": weights}
        if way.rule == "inner":
            return gradient_step_weights(network, inner, data, **options)[way.steps]
        # each family begins with a fresh state of the optimiser
        rate = settings.fine_tuning_learning_rates[0]
        return fine_tuned_weights(network, data, learning_rate=rate, **options)[way.steps]

    def adapt(weights: Parameters, supports: Sequence[np.ndarray]) -> Parameters:
        data = [episode_batch(batches, rows, column) for rows in supports]
        # stacked data are padded to the largest: those of like size go together
        by_size = np.argsort([one.edge_index.shape[1] for one in data], kind="stable")
        adapted = {name: torch.empty_like(weight) for name, weight in weights.items()}
        for chunk in np.array_split(by_size, -(-len(data) // TOGETHER)):
            own = {name: weight[chunk] for name, weight in weights.items()}
            for name, weight in some(own, [data[number] for number in chunk]).items():
                adapted[name][chunk] = weight
        return adapted

    return network, adapt


def _evaluator(
    bench: Workbench,
    batches,
    column: int,
    orders: Sequence[Sequence[Turn]],
    known: np.ndarray,
    network: CrystalNetwork,
) -> Callable[[Parameters, int], tuple[np.ndarray, float]]:
    """Return the function from one order's weights and number to its errors."""
    rows = [np.concatenate([*(turn.query for turn in order), known]) for order in orders]
    data: list[CrystalBatch] = [batches.batch(own) for own in rows]
    ends = [np.cumsum([len(turn.query) for turn in order]) for order in orders]
    deviation = bench.standardisation.deviation[column]

    def evaluate(weights: Parameters, number: int) -> tuple[np.ndarray, float]:
        with torch.no_grad():
            output = BoundModel(network, weights)(data[number])[:, column].cpu().numpy()
        error = np.abs(output - bench.targets[rows[number], column]) * deviation
        *queries, retained = np.split(error, ends[number])
        return np.array([own.mean() for own in queries]), float(retained.mean())

    return evaluate


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the means over members, which met the same orders."""
    means = {
        field.name: np.mean([getattr(one, field.name) for one in outcomes], 0)
        for field in fields(Outcome)
        if field.name != "families"
    }
    return Outcome(outcomes[0].families, **means)


def distance_of_starts(
    bench: Workbench, folders: Sequence[Path], settings: PropertiesSection
) -> float:
    """Return how far meta-training moved the weights, over the pre-trained norm; members' mean."""
    found = []
    for folder in folders:
        member = load_member(folder, bench.recipe(settings), ["maml"])
        before, after = (
            parameters_to_vector(network.parameters()).detach()
            for network in (member.pretrained, member.meta_trained["maml"][0])
        )
        found.append(((after - before).norm() / before.norm()).item())
    return float(np.mean(found))


def family_means(families: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of `values` for each family that occurs in `families` (equal shapes)."""
    names, place = np.unique(families.ravel(), return_inverse=True)
    return np.bincount(place.ravel(), values.ravel(), len(names)) / np.bincount(place.ravel())


def measures(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return the values of each measure: one per family, or per order where no family is meant.

    Backward transfer is that of Lopez-Paz and Ranzato 2017 (arXiv:1706.08840, section 2): what
    later families did to the error on one, from right after adapting to it until the end; counted
    so that forgetting is negative. The last three, of the network as a whole, are one per order.
    """
    families, error = outcome.families, outcome.error
    turns = error.shape[2]
    place = np.arange(turns)
    fresh = error[:, place + 1, place]
    transfer = fresh[:, :-1] - error[:, -1, :-1]
    return {
        "error_before": family_means(families, error[:, 0]),
        "error_when_adapted": family_means(families, fresh),
        "error_at_end": family_means(families, error[:, -1]),
        "backward_transfer": family_means(families[:, :-1], transfer),
        "pretraining_change": outcome.retained[:, -1] - outcome.retained[:, 0],
        "relative_distance": outcome.relative_distance[:, -1],
        "distance": outcome.distance[:, -1],
    }


def by_turn(outcome: Outcome) -> list[dict[str, np.ndarray]]:
    """Return the values after each number of families, from one on.

    `current` is the error on the family just adapted to, `earlier` that on all before it,
    `earlier_when_adapted` the same right after adapting to each: values per family. `pretraining`,
    `relative_distance` and `distance`: per order.
    """
    families, error = outcome.families, outcome.error
    found = []
    for after in range(1, error.shape[1]):
        past = np.arange(after - 1)
        found.append(
            {
                "current": family_means(families[:, after - 1], error[:, after, after - 1]),
                "earlier": family_means(families[:, past], error[:, after, past]),
                "earlier_when_adapted": family_means(families[:, past], error[:, past + 1, past]),
                "pretraining": outcome.retained[:, after],
                "relative_distance": outcome.relative_distance[:, after],
                "distance": outcome.distance[:, after],
            }
        )
    return found
