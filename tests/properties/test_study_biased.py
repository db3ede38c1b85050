"""The study of biased supports on few real crystals: episodes, leaks, scores, the command."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import write_table
from matml.core.settings import read_section
from matml.meta import Leak
from matml.properties.dataset import Workbench
from matml.properties.networks.ensemble import load_network
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet
from matml.structures.settings import STRUCTURES
from matml.studies.adaptation import biased
from matml.studies.adaptation.biased_episodes import (
    ClassedTasks,
    anion_classes,
    balanced_error,
    collect_pairs,
    draw_biased_episodes,
)
from matml.studies.adaptation.biased_methods import Backbone, BiasedStudy, MemberStudy

SETTINGS = """
properties: {formation_energy_eV_per_atom: 1.0, bulk_modulus_GPa: 0.3}
smallest_family: 12
smallest_task: 6
held_out: []
members: 2
width: 16
layers: 2
batch_size: 64
epochs: 2
inner_steps: 1
shots: [0, 3]
test_draws: 1
validation_draws: 1
smallest_query: 3
fine_tuning_steps: [1, 2]
"""
TINY = BiasedStudy(
    shots=(2, 3),
    draws=2,
    validation_tasks=3,
    batches=2,
    rates=(1e-4,),
    head_batches=2,
    head_rates=(1e-4,),
    scales=(0.1,),
    gp_episodes=1,
)


@pytest.fixture(scope="module")
def folder(crystals, tmp_path_factory):
    """Structures, split and two members pre-trained for two epochs."""
    folder = tmp_path_factory.mktemp("biased")
    write_table(folder / "structures/structures.parquet", crystals.table, STRUCTURES)
    crystals.graphs.save(folder / "graphs")
    (folder / "properties.yaml").write_text(SETTINGS)
    run_command(folder, "split", f"--out={folder}/properties")
    for member in ("0", "1"):
        own = [f"--run={folder}/properties", f"--member={member}"]
        run_command(folder, "pretrain", *own, f"--out={folder}/members/{member}")
    return folder


def run_command(folder, *arguments):
    common = [
        f"--structures={folder}/structures",
        f"--graphs={folder}/graphs",
        f"--config={folder}/properties.yaml",
    ]
    result = CliRunner().invoke(properties, [*arguments, *common], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def settings(folder):
    return read_section(PropertiesSection, folder / "properties.yaml")


@pytest.fixture(scope="module")
def bench(folder, settings):
    return Workbench.open(folder / "structures", folder / "graphs", folder / "properties", settings)


@pytest.fixture(scope="module")
def classes(bench):
    return anion_classes(bench.crystals.table)


@pytest.fixture(scope="module")
def pairs(bench, classes):
    found = collect_pairs(
        bench.crystals.table,
        classes,
        sorted(set(bench.families)),
        bench.names,
        fewest=2,
        smallest_class=2,
    )
    assert len(found) > 4
    return found


def test_anion_classes_of_known_crystals():
    def cubic(group, length, species, sites):
        return Structure.from_spacegroup(group, Lattice.cubic(length), species, sites)

    corner, centre, faces = [0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]
    made = CrystalSet.from_structures(
        [
            cubic("Fm-3m", 4.21, ["Mg", "O"], [corner, centre]),
            cubic("Fm-3m", 5.64, ["Na", "Cl"], [corner, centre]),
            cubic("Pm-3m", 3.91, ["Sr", "Ti", "O"], [corner, centre, faces]),
            cubic("Pm-3m", 2.88, ["Ni", "Al"], [corner, centre]),
        ]
    )
    assert anion_classes(made.table).tolist() == ["O", "Cl", "O", "none"]


def test_biased_episodes_have_one_anion_in_the_support_and_all_in_the_query(pairs, classes):
    episodes = draw_biased_episodes(pairs, shots=(2, 3), draws=2, seed=0)
    by_pair = {(pair.name, pair.family): pair for pair in pairs}
    for episode in episodes.itertuples():
        pair = by_pair[episode.property, episode.family]
        assert len(episode.support) == episode.shots
        assert set(classes[episode.support]) == {episode.anion}
        assert not set(episode.support) & set(episode.query)
        assert set(classes[episode.query]) == set(pair.classes)
        assert len(set(pair.classes)) > 1
    # only the support differs between sizes
    keys = ["property", "family", "anion", "draw"]
    for _, group in episodes.groupby(keys):
        assert len({tuple(query) for query in group["query"]}) == 1
        supports = group.sort_values("shots")["support"].tolist()
        assert all(set(a) < set(b) for a, b in pairwise(supports))


@pytest.mark.parametrize("biased_tasks", [False, True])
def test_drawn_tasks_are_biased_or_ordinary(pairs, classes, biased_tasks):
    tasks = ClassedTasks(pairs, lambda rows, column: rows, (2, 3), biased_tasks, queries=12)
    generator = torch.Generator().manual_seed(0)
    kinds = []
    for pair in pairs * 10:
        support, query = tasks.draw_rows(pair, generator)
        assert not set(support) & set(query)
        kinds.append(len(set(classes[support])))
        counts = pd.Series(classes[query]).value_counts()
        if biased_tasks:
            assert set(counts.index) == set(pair.classes)
            assert counts.max() - counts.min() <= 1
        else:
            assert len(set(query)) == len(query)
    assert (max(kinds) == 1) == biased_tasks
    again = tasks.draw(torch.Generator().manual_seed(3))
    same = tasks.draw(torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(again.support, same.support)


def test_every_anion_has_the_same_weight():
    classes = np.array(["O"] * 9 + ["F"], dtype=object)
    error = np.array([0.0] * 9 + [1.0])
    assert balanced_error(error, np.zeros(10), classes) == pytest.approx(0.5)


def test_the_read_out_continues_the_frozen_network(folder, bench, settings):
    from matml.studies.adaptation.biased_methods import read_out

    network, _ = load_network(folder / "members/0/pretrained.safetensors", bench.recipe(settings))
    rows = np.arange(30)
    backbone = Backbone(network, bench.batches("cpu"), rows)
    output = read_out(network)(backbone.inputs[rows]).detach().numpy()
    np.testing.assert_allclose(output, backbone.output[rows], atol=1e-5)
    assert np.isnan(backbone.output[31]).all()


@pytest.fixture(scope="module")
def study(folder):
    """The command's output, its files, and on what each part was meta-trained."""
    trained, real = [], MemberStudy.learn

    def watch(self, pairs, held_out):
        trained.append((self.member, {p.family for p in pairs}, held_out, self.seen))
        return real(self, pairs, held_out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemberStudy, "learn", watch)
        output = run_command(
            folder,
            "study-biased-support",
            f"--run={folder}/properties",
            f"--member={folder}/members/0",
            f"--member={folder}/members/1",
            *("--shots=2", "--shots=3", "--draws=1", "--validation-tasks=2"),
            *("--batches=1", "--rate=1e-4", "--head-batches=1", "--head-rate=1e-4"),
            *("--scale=0.1", "--gp-episodes=1", f"--keep={folder}/keep"),
            f"--json={folder}/records.json",
            f"--figure={folder}/figure.png",
            f"--errors={folder}/errors.csv",
        )
    return output, pd.read_csv(folder / "errors.csv"), trained


def test_no_stage_has_seen_a_tested_family(study, bench):
    _, errors, trained = study
    held_out = {*bench.split.test, *bench.split.validation}
    assert len(trained) == 4
    for number, (member, families, tested, seen) in enumerate(trained):
        assert tested.isdisjoint(families)
        assert (tested | families).isdisjoint(seen)
        assert (tested | families).isdisjoint(bench.split.validation)
        assert held_out.isdisjoint(seen)
        own = errors[(errors["member"] == member) & (errors["part"] == number % 2)]
        assert set(own["family"]) == tested
    # a fold's family is tested by its own member, a family of the test by each
    for family, members in errors.groupby("family")["member"].unique().items():
        expected = [bench.split.folds[family]] if family in bench.split.folds else [0, 1]
        assert sorted(members) == expected


def test_every_method_meets_every_episode_and_adapts(study):
    _, errors, _ = study
    assert np.isfinite(errors["error"]).all()
    keys = ["member", "property", "family", "anion", "draw", "shots"]
    assert not errors.duplicated([*keys, "method"]).any()
    wide = errors.pivot_table(index=keys, columns="method", values="error")
    assert set(wide.columns) == set(biased.TITLES)
    assert wide.notna().all(axis=None)
    changed = wide.drop(columns="pretrained").sub(wide["pretrained"], axis=0) != 0
    assert changed.any().all()


def test_the_command_prints_writes_and_draws(study, folder):
    output, errors, _ = study
    assert "one anion / all properties, 2 shots" in output
    records = json.loads((folder / "records.json").read_text())
    assert {record["method"] for record in records} == set(biased.TITLES)
    own = errors[(errors["shots"] == 3) & (errors["method"] == "maml_biased")]
    expected = own.groupby("family")["error"].mean()
    (record,) = [
        r
        for r in records
        if r["setting"] == "one anion / all properties"
        and r["method"] == "maml_biased"
        and r["shots"] == 3
        and r["metric"].startswith("balanced")
    ]
    assert record["value"] == pytest.approx(expected.mean())
    assert record["n_tasks"] == len(expected)
    assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    # 2 members, 2 parts, 2 kinds of episodes, 4 learners
    assert len(list((folder / "keep").glob("*.safetensors"))) == 32


def test_meta_training_on_a_tested_family_is_refused(folder, bench, settings, pairs):
    network, _ = load_network(folder / "members/0/pretrained.safetensors", bench.recipe(settings))
    rows = np.unique(np.concatenate([r for pair in pairs for r in pair.classes.values()]))
    backbone = Backbone(network, bench.batches("cpu"), rows)
    own = MemberStudy(backbone, bench, settings, TINY, set(), pairs[:1], 0)
    with pytest.raises(Leak, match="has seen"):
        own.learn(pairs[1:], {pair.family for pair in pairs[1:]})


def test_other_forms_of_a_material_are_left_out(pairs, bench, classes):
    pair = pairs[0]
    rows = np.concatenate(list(pair.classes.values()))
    ids = bench.crystals.table["id"].iloc[rows[:1]].tolist()
    fewer = collect_pairs(
        bench.crystals.table,
        classes,
        [pair.family],
        [pair.name],
        fewest=1,
        smallest_class=1,
        without=ids,
    )[0]
    left = np.concatenate(list(fewer.classes.values()))
    assert rows[0] not in left
    assert set(rows[1:]) <= set(left)


def test_scores_are_paired_by_family():
    rows = [
        ("bulk_modulus_GPa", family, anion, 0, 3, method, error, 0, 0)
        for family, anion, values in (
            ("a", "O", (1.0, 0.8, 0.5, 0.4)),
            ("b", "O", (2.0, 2.0, 1.0, 1.2)),
            ("b", "F", (4.0, 2.0, 1.0, 1.2)),
        )
        for method, error in zip(
            ("pretrained", "fine_tuned", "maml_ordinary", "maml_biased"), values, strict=True
        )
    ]
    columns = ["property", "family", "anion", "draw", "shots", "method", "error", "member", "part"]
    errors = pd.DataFrame(rows, columns=columns)
    records = biased.score(errors, {"bulk_modulus_GPa": 0.5}, seed=0)
    found = {(r["setting"], r["method"], r["metric"]): r for r in records}
    unit = "log10(GPa)"
    base = found[
        "one anion / bulk_modulus_GPa", "pretrained", f"balanced mean absolute error ({unit})"
    ]
    # family b counts once, whatever its number of episodes; in units of the property
    assert base["value"] == pytest.approx(0.5 * (1 + 3) / 2)
    assert base["n_tasks"] == 2
    gain = found[
        "one anion / all properties",
        "maml_biased",
        "gain over ordinary meta-training (standardised)",
    ]
    assert gain["value"] == pytest.approx(((0.5 - 0.4) + (1.0 - 1.2)) / 2)
    assert gain["low"] <= gain["value"] <= gain["high"]
    gain = found[
        "oxides only / all properties", "maml_biased", "gain over fine-tuned (standardised)"
    ]
    assert gain["value"] == pytest.approx(((0.8 - 0.4) + (2.0 - 1.2)) / 2)
    assert "MAML, biased episodes" in biased.describe(records)


def test_missing_members_and_impossible_parts_are_named(folder, bench, settings):
    with pytest.raises(MatmlError, match="1 folders are given, training families are dealt into 2"):
        biased.run_study(bench, [folder / "members/0"], settings, TINY)
    with pytest.raises(MatmlError, match="fewer than the 99 parts"):
        biased.deal_families([], 99, 0)
