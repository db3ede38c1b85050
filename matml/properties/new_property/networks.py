"""Networks that take up a property they were not trained on: fine-tuned, or meta-learned.

A network of setting B gets a read-out of one output in place of those of the known properties.
What is chosen, and what is meta-learned, comes from tasks in which a known property acts as the
new one, of training families that the member has not seen; no held-out family has a say.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from matml.core.standardise import Standardisation
from matml.meta import GaussianHead, Parameters
from matml.meta.vectorised import repeat_weights
from matml.properties.baselines.support_only import support_ridge
from matml.properties.data.batches import GraphBatches
from matml.properties.dataset import Workbench
from matml.properties.networks.adaptation import (
    fine_tuned_weights,
    meta_learned_weights,
    predict_many,
)
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import Member, NetworkRecipe, load_network, save_network
from matml.properties.networks.metatrain import episode_loss, member_training, metatrain
from matml.properties.networks.pretrain import embed
from matml.properties.new_property.tasks import (
    SHOTS,
    Episode,
    KnownTasks,
    new_property_batch,
    standard_labels,
)
from matml.properties.settings import PropertiesSection

log = logging.getLogger(__name__)

FINE_TUNED = "fine_tuned"
RATES, STEPS = (3e-4, 1e-3), (0, 10, 30)
"""Of fine-tuning by Adam. The new read-out starts from ridge regression on the frozen features: in
tasks of known properties that was better at each number of labels than starting from the mean of
the support (error 0.64 against 0.72 deviations at 10 labels, 0.59 against 0.65 at 20), and ten
times the smaller rate was no better."""
CHOOSING_TASKS, STOPPING_TASKS = 16, 40
"""Tasks per number of labels and member that these are chosen by, and that meta-training stops
by."""
INNER_STEPS, INNER_RATE, META_RATE = 5, 0.1, 3e-4
"""Of meta-training, where the read-out is new. On tasks of known properties of families that it
does not learn from, the loss before it was lowest at 0.1 (of 0.01 to 0.4) with 5 steps, and 3 %
lower with 10 at twice the time; after it, at 3e-4 (of 1e-4 to 1e-3)."""
AT_ONCE = 32
"""Tasks that are adapted together, which bounds the memory."""

Variant = tuple[float, int]
"""Rate and number of steps."""


def new_recipe(recipe: NetworkRecipe) -> NetworkRecipe:
    """Return the recipe of a network with one output, and its inner loops."""
    return replace(
        recipe, properties=("new",), inner_steps=INNER_STEPS, inner_learning_rate=INNER_RATE
    )


def with_new_read_out(network: CrystalNetwork, recipe: NetworkRecipe) -> CrystalNetwork:
    """Return the network with a read-out of one output that says 0, the mean of the support."""
    found = recipe.build()
    own = {n: w for n, w in network.state_dict().items() if not n.startswith("head.")}
    found.load_state_dict(own, strict=False)
    torch.nn.init.zeros_(found.head.weight)
    torch.nn.init.zeros_(found.head.bias)
    return found.to(next(network.parameters()).device).eval()


def member_tasks(
    bench: Workbench,
    settings: PropertiesSection,
    member: int,
    device: str,
) -> tuple[KnownTasks, KnownTasks]:
    """Return tasks of families that a member has not seen: to learn from, and to stop by."""
    families = sorted(bench.fold_families(member))
    watched = families[1::4]
    parts = [f for f in families if f not in watched], watched
    learning, stopping = (
        KnownTasks.of(bench, part, SHOTS, settings.smallest_task, device) for part in parts
    )
    return learning, stopping


def metatrain_new(
    bench: Workbench,
    folder: Path,
    settings: PropertiesSection,
    *,
    member: int,
    methods: Sequence[str],
    seed: int,
    device: str,
) -> None:
    """Meta-train a member by each method to take up a new property, where that is not done."""
    recipe = new_recipe(bench.recipe(settings))
    todo = [m for m in methods if not _file(folder, m).exists()]
    if not todo:
        return
    tasks, watched = member_tasks(bench, settings, member, device)
    pretrained, _ = load_network(folder / "pretrained.safetensors", bench.recipe(settings))
    seen = bench.split.training_rows(bench.families, without_fold=bench.split.fold_of(member))
    for method in todo:
        network = with_new_read_out(pretrained.to(device), recipe)
        inner = recipe.build_inner(network, method).to(device)
        own = replace(member_training(settings, member, seed), learning_rate=META_RATE)
        if not tasks:
            own = replace(own, batches=0)
        history = metatrain(
            network,
            inner,
            method,
            tasks,
            watched,
            own,
            validation_tasks=STOPPING_TASKS if watched else 0,
            seen_families=set(bench.families[seen]),
            title=f"member {member}: {method}, new property",
        )
        save_network(_file(folder, method), network, inner)
        log.info(
            "member %d, %s for a new property: loss %.3f -> %.3f on families not trained on",
            member,
            method,
            history.validation_loss[0],
            min(history.validation_loss),
        )


def _file(folder: Path, method: str) -> Path:
    return folder / f"new-property-{method}.safetensors"


@dataclass(frozen=True)
class NewReadOuts:
    """Members that take up a new property, each by several methods.

    Attributes
    ----------
    members
        With a network of one output, and its meta-trained forms.
    embeddings
        Of each member, [crystals, width].
    variants
        Of fine-tuning, by the number of labels; empty where it is left out.
    """

    members: list[Member]
    batches: GraphBatches
    embeddings: list[np.ndarray]
    variants: dict[int, Variant]

    @classmethod
    def open(
        cls,
        bench: Workbench,
        folders: Sequence[Path],
        settings: PropertiesSection,
        *,
        methods: Sequence[str],
        fine_tune: bool,
        shots: Sequence[int],
        pooled: bool,
        seed: int,
        device: str,
    ) -> "NewReadOuts":
        """Return trained members, with the variant of fine-tuning chosen on known properties."""
        recipe, batches = (
            new_recipe(bench.recipe(settings)),
            GraphBatches(bench.crystals, device=device),
        )
        members, embeddings = [], []
        for folder in folders:
            network, _ = load_network(folder / "pretrained.safetensors", bench.recipe(settings))
            forms = {}
            for method in methods:
                own, inner = load_network(_file(folder, method), recipe, method)
                forms[method] = own.to(device), inner.to(device).eval()
            network = with_new_read_out(network.to(device), recipe)
            members.append(Member(network, forms, {}))
            embeddings.append(embed(network, batches, range(len(batches))).astype(float))
        found = cls(members, batches, embeddings, {})
        if fine_tune:
            tasks = [
                KnownTasks.of(
                    bench, bench.fold_families(member), shots, settings.smallest_task, device
                )
                for member in range(len(members))
            ]
            for k in [k for k in shots if k > 1]:
                found.variants[k] = found._choose(tasks, k, pooled, seed)
        return found

    def _choose(self, tasks: Sequence[KnownTasks], shots: int, pooled: bool, seed: int) -> Variant:
        """Return the variant with the lowest error of queries, in deviations of a task's labels."""
        errors: dict[Variant, list[float]] = {}
        for member, own in enumerate(tasks):
            generator = torch.Generator().manual_seed(seed)
            drawn = [
                own.rows(generator, shots, pooled) for _ in range(CHOOSING_TASKS if own else 0)
            ]
            # families that are too small for so many labels have fewer
            for k in {len(support) for _, _, support, _ in drawn}:
                group = [rows for rows in drawn if len(rows[2]) == k]
                labels = [own.targets[np.r_[s, q], column] for _, column, s, q in group]
                known = np.stack([each[:k] for each in labels])
                supports, queries = [rows[2] for rows in group], [rows[3] for rows in group]
                variants = list(product(RATES, STEPS))
                for variant, found in self._fine_tune(member, supports, known, queries, variants):
                    errors.setdefault(variant, []).extend(
                        np.abs(prediction - each[k:]).mean() / each.std()
                        for prediction, each in zip(found, labels, strict=True)
                    )
        if not errors:
            return RATES[0], STEPS[0]
        best = min(errors, key=lambda variant: np.mean(errors[variant]))
        log.info("fine-tuning with %d labels: rate %g, %d steps", shots, *best)
        return best

    def predict(
        self, episodes: Sequence[Episode], labels: np.ndarray
    ) -> Iterator[tuple[Episode, str, np.ndarray, None]]:
        """Yield episode, method and prediction, the mean over members.

        Parameters
        ----------
        labels
            Of all crystals, [n].
        """
        groups: dict[tuple[int, bytes], list[Episode]] = {}
        for episode in episodes:
            # several families may have a support in common
            groups.setdefault((episode[2], episode[3].tobytes()), []).append(episode)
        names = [*([FINE_TUNED] if self.variants else []), *self.members[0].meta_trained]
        for shots in sorted({k for k, _ in groups}):
            own = [group for (k, _), group in groups.items() if k == shots]
            supports = [group[0][3] for group in own]
            queries = [np.unique(np.concatenate([e[4] for e in group])) for group in own]
            known = np.stack([labels[support] for support in supports])
            for name in names:
                found = self._predict(name, supports, known, queries)
                for group, query, prediction in zip(own, queries, found, strict=True):
                    for episode in group:
                        yield episode, name, prediction[np.searchsorted(query, episode[4])], None

    def _predict(
        self,
        name: str,
        supports: Sequence[np.ndarray],
        known: np.ndarray,
        queries: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """Return the members' mean prediction at each query by one method."""
        if known.shape[1] < 2:
            # one label tells a mean, and nothing of a scale
            return [
                np.full(len(query), own.mean()) for query, own in zip(queries, known, strict=True)
            ]
        of_members = []
        for number, member in enumerate(self.members):
            if name == FINE_TUNED:
                variant = self.variants[known.shape[1]]
                ((_, found),) = self._fine_tune(number, supports, known, queries, [variant])
            else:
                found = self._meta_learned(member, name, supports, known, queries)
            of_members.append(found)
        return [np.mean(each, 0) for each in zip(*of_members, strict=True)]

    def _fine_tune(
        self,
        member: int,
        supports: Sequence[np.ndarray],
        known: np.ndarray,
        queries: Sequence[np.ndarray],
        variants: Sequence[Variant],
    ) -> Iterator[tuple[Variant, list[np.ndarray]]]:
        """Yield each variant, and its predictions at the queries, in the labels' units."""
        network = self.members[member].pretrained
        steps: dict[float, list[int]] = {}
        for rate, number in variants:
            steps.setdefault(rate, []).append(number)
        for rate, numbers in steps.items():
            found: dict[int, list[np.ndarray]] = {number: [] for number in numbers}
            for chunk, data, asked, scales in self._chunks(supports, known, queries):
                standard = np.stack([own.label.cpu().numpy() for own in data]).astype(float)
                weights = repeat_weights(dict(network.named_parameters()), len(data))
                weights |= ridge_read_out(self.embeddings[member], np.stack(chunk), standard)
                weights = {n: w.detach().to(self.batches.device) for n, w in weights.items()}
                tuned = {0: weights}
                if max(numbers):
                    tuned |= fine_tuned_weights(
                        network, data, learning_rate=rate, checkpoints=numbers, start=weights
                    )
                for number in numbers:
                    output = predict_many(network, tuned[number], asked, 0)
                    found[number] += [m + s * x for x, (m, s) in zip(output, scales, strict=True)]
            for number in numbers:
                yield (rate, number), found[number]

    def _meta_learned(
        self,
        member: Member,
        method: str,
        supports: Sequence[np.ndarray],
        known: np.ndarray,
        queries: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """Return the predictions of a meta-trained member, in the labels' units."""
        network, inner = member.meta_trained[method]
        found = []
        for _, data, asked, scales in self._chunks(supports, known, queries):
            if isinstance(inner, GaussianHead):
                with torch.no_grad():
                    adapted = [inner.adapt(network, episode_loss, own) for own in data]
                    output = [
                        model(query)[:, 0].cpu().numpy()
                        for model, query in zip(adapted, asked, strict=True)
                    ]
            else:
                weights = meta_learned_weights(member, method, data)
                output = predict_many(network, weights, asked, 0)
            found += [m + s * x for x, (m, s) in zip(output, scales, strict=True)]
        return found

    def _chunks(
        self, supports: Sequence[np.ndarray], known: np.ndarray, queries: Sequence[np.ndarray]
    ) -> Iterator[tuple]:
        """Yield supports, their batches, those of queries, and (mean, deviation) of the labels."""
        for first in range(0, len(supports), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            standard = [standard_labels(own, len(own)) for own in known[part]]
            data = [
                new_property_batch(self.batches, support, labels)
                for support, (labels, _, _) in zip(supports[part], standard, strict=True)
            ]
            asked = [self.batches.batch(query) for query in queries[part]]
            yield supports[part], data, asked, [own[1:] for own in standard]


def ridge_read_out(embeddings: np.ndarray, supports: np.ndarray, labels: np.ndarray) -> Parameters:
    """Return weight and bias of a read-out that ridge regression gives, [tasks, ...].

    Parameters
    ----------
    embeddings
        What the read-out takes of all crystals, [n, width].
    supports, labels
        Row numbers and labels, [tasks, k] each.
    """
    own = Standardisation.of(embeddings)
    # a linear model is told by what it says at zero and along each axis
    width = embeddings.shape[1]
    probes = np.vstack([np.zeros(width), np.eye(width)])
    standard, probes = own.apply(embeddings), own.apply(probes)
    said = np.stack(support_ridge(standard[supports], labels, [probes] * len(supports)))
    weight, bias = said[:, None, 1:] - said[:, :1, None], said[:, :1]
    return {
        name: torch.from_numpy(np.ascontiguousarray(x, np.float32))
        for name, x in (("head.weight", weight), ("head.bias", bias))
    }
