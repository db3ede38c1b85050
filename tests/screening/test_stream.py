"""Candidates in chunks and shards: the same shortlist, broken lines told, memory not touched."""

import csv
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from ridge_screening import PROPERTY, run, screen

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.screening.data.reader import read_chunks
from matml.screening.objectives import parse_objectives
from matml.screening.score.scoring import Scored
from matml.screening.select import run as shortlist
from matml.screening.select import shortlist as finish
from matml.screening.select import top_k as keep
from matml.screening.select.top_k import Keeper, best_first
from matml.structures.settings import StructuresSection

pytestmark = pytest.mark.usefixtures("ridge")
POSCAR = "{0}\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\n{0} Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(shortlist, "read_chunks", partial(read_chunks, size=20))


def options(prepared):
    return ("--config", prepared / "screening.yaml", "--known-graphs", prepared / "graphs")


def test_chunks_change_nothing(prepared, tmp_path, small_chunks):
    screen(prepared, tmp_path / "small", *options(prepared))
    small = read_table(tmp_path / "small" / "shortlist.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortlist, "read_chunks", read_chunks)
        screen(prepared, tmp_path / "whole", *options(prepared))
    pd.testing.assert_frame_equal(small, read_table(tmp_path / "whole" / "shortlist.csv"))


def test_shards_merge_to_the_same_shortlist(prepared, tmp_path, small_chunks):
    screen(prepared, tmp_path / "whole", *options(prepared))
    # more shards than chunks, so that some have nothing to do
    shards = [tmp_path / f"shard-{number}" for number in range(9)]
    for number, folder in enumerate(shards):
        screen(prepared, folder, *options(prepared), "--shard", number, "--shards", len(shards))
        assert not (folder / "shortlist.csv").exists()
    states = [json.loads((folder / "state.json").read_text()) for folder in shards]
    assert 0 in [state["counts"]["read"] for state in states]
    arguments = [word for folder in shards for word in ("--shard", folder)]
    run("screen", "merge", *arguments, "--out", tmp_path / "merged")
    for name in ("shortlist.csv",):
        merged, whole = (tmp_path / part / name for part in ("merged", "whole"))
        assert merged.read_bytes() == whole.read_bytes()
    merged, whole = (
        json.loads((tmp_path / part / "summary.json").read_text()) for part in ("merged", "whole")
    )
    for key in ("n_ranked", "n_in_domain", "check_on_known", "notes", "best_new"):
        assert merged[key] == whole[key], key
    scores = pd.concat(
        [pd.read_parquet(f / "scores.parquet") for f, s in zip(shards, states, strict=True)
         if s["counts"]["ranked"]]
    )  # fmt: skip
    assert len(scores) == merged["n_ranked"]


def test_shares_of_mixed_tables_merge_to_the_same_shortlist(prepared, tmp_path, small_chunks):
    """What a table says beside its structures is text in a CSV, numbers in Parquet."""
    made = read_table(prepared / "candidates" / "candidates.parquet")
    assert made["tolerance_factor"].dtype == float
    inputs = tmp_path / "in"
    inputs.mkdir()
    made[:20].to_csv(inputs / "a.csv", index=False)
    made[20:40].to_parquet(inputs / "b.parquet")
    screen(prepared, tmp_path / "whole", *options(prepared), candidates=inputs)
    arguments = []
    for number in range(2):
        share = tmp_path / f"share-{number}"
        shares = ("--shard", number, "--shards", 2)
        screen(prepared, share, *options(prepared), *shares, candidates=inputs)
        arguments += ["--shard", share]
    run("screen", "merge", *arguments, "--out", tmp_path / "merged")
    merged, whole = (tmp_path / part / "shortlist.csv" for part in ("merged", "whole"))
    assert merged.read_bytes() == whole.read_bytes()


def test_shards_of_different_runs_are_refused(prepared, tmp_path):
    screen(prepared, tmp_path / "a", "--shard", 0, "--shards", 2)
    screen(prepared, tmp_path / "b", "--shard", 1, "--shards", 2, "--goal", "minimise")
    with pytest.raises(MatmlError, match="made with another objectives"):
        run("screen", "merge", "--shard", tmp_path / "a", "--shard", tmp_path / "b",
            "--out", tmp_path / "out")  # fmt: skip


def test_a_share_that_is_missing_or_given_twice(prepared, tmp_path):
    shares = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(shares):
        screen(prepared, folder, "--shard", number, "--shards", 3)
    for given, said in (
        ([0, 1], "of 3 shares, 1 are missing, the first 2; run"),
        ([1, 0, 1], "holds share 1, as does"),
    ):
        arguments = [word for number in given for word in ("--shard", shares[number])]
        with pytest.raises(MatmlError, match=said):
            run("screen", "merge", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shard_beyond_their_number(prepared, tmp_path):
    with pytest.raises(MatmlError, match="must be from 0 to 1"):
        screen(prepared, tmp_path, "--shard", 2, "--shards", 2)


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["material_id", "poscar", "note"])
        writer.writerows(rows)


def quarantined(path):
    return [
        (document.id, document.bad.reason)
        for chunk in read_chunks([path], StructuresSection(), size=50)
        for document in chunk.documents
        if document.bad is not None
    ]


def test_one_broken_line_in_a_long_csv(tmp_path):
    path = tmp_path / "many.csv"
    write_csv(path, [(f"m{n}", POSCAR.format("Na"), "x") for n in range(4000)])
    lines = path.read_text().split("\n")
    # a comma too many at the end of one record
    place = lines.index('",x', 20_000)
    lines[place] = '",x,y'
    path.write_text("\n".join(lines))
    [(_, reason)] = quarantined(path)
    assert f"to {place + 1}: 4 fields where the header has 3" in reason
    chunks = list(read_chunks([path], StructuresSection()))
    assert sum(map(len, chunks)) == 4000
    assert sum(document.bad is None for chunk in chunks for document in chunk.documents) == 3999


def test_a_quote_that_is_never_closed_costs_its_row_only(tmp_path):
    path = tmp_path / "many.csv"
    write_csv(path, [(f"m{n}", POSCAR.format("Na"), "x") for n in range(300)])
    records = path.read_text().split("m150,")
    path.write_text(records[0] + "m150," + records[1].replace('",x', ",x", 1))
    [(_, reason)] = quarantined(path)
    # each record has eleven lines, the header one
    assert reason.startswith(f"lines {2 + 11 * 150} to {1 + 11 * 151}: ")
    good = [
        d.id for c in read_chunks([path], StructuresSection()) for d in c.documents if not d.bad
    ]
    assert good == [f"many/m{n}" for n in range(300) if n != 150]


def test_bad_candidates_among_good_ones_in_a_csv(prepared, tmp_path):
    rows = [
        ("good", POSCAR.format("K"), "a"),
        ("unknown", POSCAR.format("Qq"), "b"),
        ("overlapping", POSCAR.format("K").replace("0.5 0.5 0.5", "0.1 0 0"), "c"),
        ("empty", "", "d"),
        ("infinite", POSCAR.format("K").replace("0 2.8 2.8", "0 inf 2.8"), "e"),
    ]
    write_csv(tmp_path / "own.csv", rows)
    screen(prepared, tmp_path / "out", candidates=tmp_path / "own.csv")
    table = read_table(tmp_path / "out" / "shortlist.csv")
    assert table["id"].tolist() == ["own/good"]
    assert table["note"].tolist() == ["a"]
    bad = read_table(tmp_path / "out" / "crystals" / "quarantine.csv").set_index("id")
    assert set(bad.index) == {
        f"own/{name}" for name in ("unknown", "overlapping", "empty", "infinite")
    }
    assert "overlapping atoms" in bad.loc["own/overlapping", "reason"]
    assert bad["remedy"].notna().all()


def test_a_table_without_structures(tmp_path):
    (tmp_path / "labels.csv").write_text("id,value\na,1\n")
    with pytest.raises(MatmlError, match="has no column of crystals: `poscar`"):
        list(read_chunks([tmp_path / "labels.csv"], StructuresSection()))
    with pytest.raises(MatmlError, match="no such file"):
        list(read_chunks([tmp_path / "absent.csv"], StructuresSection()))


def test_a_folder_of_all_kinds(prepared, tmp_path, small_chunks):
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    made = read_table(prepared / "candidates" / "candidates.parquet")
    (folder / "deep" / "POSCAR_a").write_text(made["poscar"][0])
    made.iloc[1:4].to_parquet(folder / "part.parquet")
    (folder / "notes.txt").write_text("nothing")
    (folder / "labels.csv").write_text("id,value\na,1\n")
    chunks = list(read_chunks([folder], StructuresSection()))
    names = [document.id for chunk in chunks for document in chunk.documents]
    assert names == ["deep/POSCAR_a", *("part/" + made["material_id"][1:4])]


ROCKSALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


def scored(rows, generator, start):
    """Rows as the scorer gives them, random scores."""
    table = pd.DataFrame(
        {
            "id": [f"c{start + n:05d}" for n in range(rows)],
            "source": "x",
            "row": np.arange(start, start + rows),
            "formula": [f"Na{start + n}Cl" for n in range(rows)],
            "prototype": "AB_cF8_225_a_b",
            "lattice": [ROCKSALT.lattice.matrix.ravel()] * rows,
            "frac_coords": [ROCKSALT.frac_coords.ravel()] * rows,
            "atomic_numbers": [np.array(ROCKSALT.atomic_numbers)] * rows,
            PROPERTY: generator.normal(size=rows).round(1),
            "probability": 1.0,
            "distance": 0.5,
            "in_domain": generator.random(rows) < 0.7,
            "rare_elements": "",
            "beyond_labels": False,
            "duplicate_of": "",
            "known_composition": False,
            "in_support": False,
            "known_value": np.nan,
            # few distinct values, so that ties are met
            "score": generator.normal(size=rows).round(1),
        }
    )
    for name in ("low", "high"):
        table[f"{PROPERTY}_{name}"] = table[PROPERTY]
    return table


def test_the_best_are_kept_whatever_their_order():
    generator = np.random.default_rng(0)
    objectives = parse_objectives([f"{PROPERTY} maximise"])
    tables = [scored(400, generator, 400 * n) for n in range(12)]
    keeper = Keeper(50, PROPERTY, objectives)
    for table in tables:
        keeper.add(Scored(table, table[[]], [], len(table), 0))
    everything = best_first(pd.concat(tables, ignore_index=True)).head(50)
    assert keeper.kept()["id"].tolist() == everything["id"].tolist()
    assert keeper.counts["read"] == keeper.counts["ranked"] == 4800


def test_the_front_is_kept_beyond_the_best():
    generator = np.random.default_rng(1)
    objectives = parse_objectives([f"{PROPERTY} maximise", "band_gap_eV minimise"])
    keeper, all_criteria, tables = Keeper(10, PROPERTY, objectives), [], []
    for n in range(6):
        table = scored(300, generator, 300 * n).assign(in_domain=True)
        criteria = generator.normal(size=(300, 2)).round(1)
        keeper.add(Scored(table, table[[]], [], 300, 0, criteria, np.zeros((300, 0))))
        all_criteria.append(criteria)
        tables.append(table)
    criteria, ids = np.concatenate(all_criteria), pd.concat(tables)["id"].to_numpy()
    front = ids[~keep.dominated_by(criteria, criteria)]
    assert set(front) <= set(keeper.kept()["id"])
    assert len(keeper.kept()) <= len(front) + 10


def test_copies_across_chunks_are_found_at_the_end(prepared, tmp_path, small_chunks):
    made = read_table(prepared / "candidates" / "candidates.parquet")
    twice = pd.concat([made, made.head(5).assign(material_id="again")], ignore_index=True)
    twice.to_parquet(tmp_path / "twice.parquet")
    screen(prepared, tmp_path / "out", *options(prepared), candidates=tmp_path / "twice.parquet")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["n_candidates_read"] == len(made) + 5
    assert summary["n_copies_left_out"] == 5
    scores = read_table(tmp_path / "out" / "scores.parquet")
    again = scores["id"].str.contains("/again")
    assert again.sum() == scores["is_copy"].sum() == 5
    assert scores.loc[again, "is_copy"].all()
    left = {path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."}
    assert left == {"candidates", "crystals", "explained.json", "kept.parquet", "scores.parquet",
                    "shortlist.csv", "state.json", "summary.json"}  # fmt: skip
    found = f"5 of the {len(made) + 5} crystals read were found to equal another"
    assert any(note.startswith(found) for note in summary["notes"])
    assert summary["n_in_shortlist"] == len(made)


def test_copies_from_other_chunks_do_not_take_places():
    generator = np.random.default_rng(3)
    objectives = parse_objectives([f"{PROPERTY} maximise"])
    keeper, tables = Keeper(20, PROPERTY, objectives), []
    for n in range(5):
        table = scored(400, generator, 400 * n).assign(in_domain=True)
        # one crystal, ever a little better, is the best of each chunk many times over
        again = table.index < 30
        table["formula"] = table["formula"].where(~again, "NaCl")
        table["score"] = table["score"].where(~again, 9.0 + 0.1 * n)
        keeper.add(Scored(table, table[[]], [], 400, 0, np.zeros((400, 1)), np.zeros((400, 0))))
        tables.append(table)
    every = pd.concat(tables)
    best = every.sort_values(["score", "id"], ascending=[False, True])
    expected = best.drop_duplicates("formula").head(20)
    assert keeper.kept()["id"].tolist() == expected["id"].tolist()
    assert keeper.counts["copies"] == 5 * 30 - 1


def test_ids_that_repeat_are_told_apart():
    rows = pd.DataFrame(
        {
            "id": ["a", "a", "b"],
            "formula": ["X", "Y", "X"],
            "prototype": "p",
            "lattice": [np.eye(3).ravel()] * 3,
            "frac_coords": [np.zeros(3)] * 3,
            "atomic_numbers": [[1], [2], [3]],
        }
    ).assign(formula=["H", "He", "Li"])
    found, copies = finish.without_copies(rows)
    assert found["id"].tolist() == ["a", "a~2", "b"]
    assert copies == 0
