"""`matml screen` from files to files, with a small real predictor: ridge on a few features."""

import json
import re
import shutil
import zipfile
from html import escape

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from pymatgen.core import Lattice, Structure
from ridge_screening import PROPERTY, RidgePredictor, screen

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.screening import Shortlist
from matml.screening.data.reader import read_chunks
from matml.screening.select import run as shortlist
from matml.structures.elements import structure_of
from matml.structures.settings import StructuresSection

pytestmark = pytest.mark.usefixtures("ridge")


@pytest.fixture(scope="module")
def screened(prepared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortlist, "load_predictor", lambda *_, **__: RidgePredictor())
        screen(prepared, prepared / "out", "--config", prepared / "screening.yaml",
               "--known-graphs", prepared / "graphs")  # fmt: skip
    return prepared / "out"


def test_shortlist_is_ranked_and_complete(screened, prepared):
    table = read_table(screened / "shortlist.csv")
    made = read_table(prepared / "candidates" / "candidates.parquet")
    assert set(table["formula"]) == set(made["formula"])
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    for _, part in table.groupby("in_domain"):
        assert part["prediction"].is_monotonic_decreasing
    assert table["in_domain"].is_monotonic_decreasing
    assert (table["low"] < table["prediction"]).all()
    assert (table["prediction"] < table["high"]).all()
    inside = (table["distance"] <= 1) & table["rare_elements"].isna() & ~table["beyond_labels"]
    assert (table["in_domain"] == inside).all()
    merged = table.merge(made, on="formula", suffixes=("", "_made"))
    assert np.allclose(merged["tolerance_factor"], merged["tolerance_factor_made"], rtol=1e-5)
    assert merged["oxidation_states"].tolist() == merged["oxidation_states_made"].tolist()


def test_known_fluorides_are_flagged_with_their_value(screened, prepared):
    table = read_table(screened / "shortlist.csv").set_index("formula")
    known = read_table(prepared / "structures" / "structures.parquet").set_index("id")
    same = table["duplicate_of"].fillna(table["strained_copy_of"])
    assert known.loc[same["KMgF3"], "formula"] == "KMgF3"
    valued = table[table["known_value"].notna()]
    assert len(valued) > 2
    for formula, value in valued["known_value"].items():
        assert value == known.loc[same[formula], PROPERTY]
    assert (same.notna() <= table["known_composition"]).all()
    # what the user has labelled checks nothing, at whatever volume
    support = read_table(prepared / "support.csv")
    own = table.loc[table.index.isin(support["formula"])]
    assert len(own) > 2
    assert (own["in_support"] | own["known_value"].isna()).all()
    assert set(table.index[table["in_support"]]) <= set(support["formula"])


def test_summary_counts_and_speaks(screened, prepared):
    summary = json.loads((screened / "summary.json").read_text())
    table = read_table(screened / "shortlist.csv")
    assert summary["n_ranked"] == len(table) == summary["n_candidates_read"]
    assert summary["n_duplicates_of_known"] == table["duplicate_of"].notna().sum()
    assert summary["check_on_known"]["n"] > 2
    assert summary["n_quarantined"] == 0
    assert summary["method"] == "ridge"
    assert summary["seconds"] < 15
    assert [entry["rank"] for entry in summary["best_new"]] == sorted(
        entry["rank"] for entry in summary["best_new"]
    )
    assert not {entry["formula"] for entry in summary["best_new"]} & set(
        table["formula"][table["known_composition"]]
    )


@pytest.mark.parametrize("held_out", [True, False])
def test_the_check_says_whether_the_model_may_have_learned_it(prepared, tmp_path, held_out):
    known = read_table(prepared / "structures" / "structures.parquet")
    [family] = known[known["formula"] == "KMgF3"]["family"].unique()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RidgePredictor, "held_out_families", [family] if held_out else ["other"])
        screen(prepared, tmp_path, "--config", prepared / "screening.yaml")
    summary = json.loads((tmp_path / "summary.json").read_text())
    [note] = [note for note in summary["notes"] if "known with a label" in note]
    assert summary["check_on_known"]["held_out"] is held_out
    assert note.startswith(f"{summary['check_on_known']['n']} candidates are known")
    end = "inside the 90 % interval." if held_out else "this says nothing of new crystals."
    assert note.endswith(end)


def test_top_structures_are_written_as_cif(screened):
    table = read_table(screened / "shortlist.csv")
    files = sorted(path.name for path in (screened / "candidates").glob("[!.]*"))
    assert files == table["cif"].dropna().tolist()
    assert len(files) == 7
    first = Structure.from_file(screened / "candidates" / files[0])
    assert first.composition.reduced_formula == table["formula"][0]


def test_a_shortlist_from_python(screened, tmp_path):
    found = Shortlist.load(screened)
    pd.testing.assert_frame_equal(found.table, read_table(screened / "shortlist.csv"))
    assert list(found.files) == found.table["id"][: len(found.files)].tolist()
    assert [path.name for path in found.files.values()] == sorted(found.table["cif"].dropna())
    assert all(path.is_file() for path in found.files.values())
    assert Shortlist.load(screened / "shortlist.csv").folder == screened
    best = found.table["formula"][0]
    assert repr(found).startswith(f"Shortlist (highest refractive index): {len(found)} of ")
    assert best in repr(found)
    page = found._repr_html_()
    assert page.count("<tr") == 11
    assert all(escape(note) in page for note in found.notes)
    ax = found.plot(number=5)
    assert found.plot(ax) is ax
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == best
    pyplot.close(ax.figure)
    with pytest.raises(MatmlError, match="no such file; give the folder that"):
        Shortlist.load(tmp_path)


def test_candidates_of_a_shortlist_keep_their_ids(screened, tmp_path):
    table = read_table(screened / "shortlist.csv")
    own = dict(zip(table["cif"].dropna(), table["id"], strict=False))
    first = next(iter(own))
    for path, names in (
        (screened, set(own)),
        (screened / "candidates", set(own)),
        (screened / "candidates" / first, {first}),
    ):
        [chunk] = read_chunks([path], StructuresSection())
        assert {document.id for document in chunk.documents} == {own[name] for name in names}
    # files elsewhere are called as they are
    (tmp_path / "candidates").mkdir()
    shutil.copy(screened / "candidates" / first, tmp_path / "candidates")
    [chunk] = read_chunks([tmp_path / "candidates"], StructuresSection())
    assert [document.id for document in chunk.documents] == [first]


def test_several_objectives_are_drawn_side_by_side(screened, tmp_path):
    found = Shortlist.load(screened)
    gap = found.table["prediction"] + 1
    table = found.table.assign(band_gap_eV=gap, band_gap_eV_low=gap - 1, band_gap_eV_high=gap + 1)
    objectives = [f"{PROPERTY} maximise", "2 <= band_gap_eV <= 30"]
    summary = found.summary | {
        "objectives": objectives,
        "properties": {PROPERTY: "", "band_gap_eV": "eV"},
    }
    several = Shortlist(tmp_path, table, summary)
    axes = several.plot(number=4)
    assert [place.get_xlabel() for place in axes] == ["refractive index", "band gap (eV)"]
    drawn = axes[1].containers[0].lines[0].get_xdata()
    assert list(drawn) == gap[:4].tolist()[::-1]
    assert {line.get_xdata()[0] for line in axes[1].lines if line.get_linestyle() == ":"} == {2, 30}
    assert axes[1].get_xlim()[1] >= 30
    # on axes of one's own: the leading property
    assert several.plot(axes[0]) is axes[0]
    pyplot.close("all")


def test_same_seed_same_bytes(screened, prepared, tmp_path):
    screen(prepared, tmp_path, "--config", prepared / "screening.yaml",
           "--known-graphs", prepared / "graphs")  # fmt: skip
    assert (tmp_path / "shortlist.csv").read_bytes() == (screened / "shortlist.csv").read_bytes()


def test_minimise_turns_the_order(screened, prepared, tmp_path):
    screen(prepared, tmp_path, "--goal", "minimise", "--config", prepared / "screening.yaml")
    table = read_table(tmp_path / "shortlist.csv")
    best = table[table["in_domain"]]
    assert best["prediction"].is_monotonic_increasing
    turned = read_table(screened / "shortlist.csv").query("in_domain")
    assert best["formula"].iloc[0] == turned["formula"].iloc[-1]


@pytest.fixture
def own_structures(tmp_path):
    """A user's folder: two good structures, one with overlapping atoms, one with no element."""
    folder = tmp_path / "own"
    folder.mkdir()
    positions = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    for name, symbols, edge in [
        ("KZnF3", ["K", "Zn", "F", "F", "F"], 4.1),
        ("RbZnF3", ["Rb", "Zn", "F", "F", "F"], 4.2),
        ("tiny", ["K", "Zn", "F", "F", "F"], 1.9),
    ]:
        Structure(Lattice.cubic(edge), symbols, positions).to(str(folder / f"{name}.cif"))
    text = (folder / "KZnF3.cif").read_text()
    (folder / "unknown.cif").write_text(re.sub(r"\bZn\b|Zn(?=\d)", "Qq", text))
    return folder


def test_own_structures_with_bad_ones_quarantined(prepared, own_structures, tmp_path):
    support = tmp_path / "support.csv"
    rows = read_table(prepared / "support.csv").head(4)
    rows = pd.concat([rows, pd.DataFrame({"file": ["own/RbZnF3.cif"], PROPERTY: [1.5]})])
    rows.to_csv(support, index=False)
    screen(prepared, tmp_path / "out", candidates=own_structures, support=support)
    table = read_table(tmp_path / "out" / "shortlist.csv").set_index("formula")
    assert set(table.index) == {"KZnF3", "RbZnF3"}
    # the crystal whose label was given as a file counts as known
    assert table.loc["RbZnF3", "in_support"]
    assert table.loc["RbZnF3", "known_value"] == 1.5
    quarantine = read_table(tmp_path / "out" / "crystals" / "quarantine.csv").set_index("id")
    assert set(quarantine.index) == {"tiny.cif", "unknown.cif"}
    assert quarantine["remedy"].notna().all()


def test_nothing_left_is_an_error(prepared, own_structures, tmp_path):
    for name in ("KZnF3.cif", "RbZnF3.cif"):
        (own_structures / name).unlink()
    with pytest.raises(MatmlError, match="none of the 2 crystals can be used"):
        screen(prepared, tmp_path / "out", candidates=own_structures)


def test_unusable_support_file_names_the_file(prepared, own_structures, tmp_path):
    support = tmp_path / "support.csv"
    support.write_text(f"file,{PROPERTY}\nown/KZnF3.cif,1.4\nown/tiny.cif,1.5\n")
    with pytest.raises(MatmlError, match=r"tiny\.cif: .*volume per atom"):
        screen(prepared, tmp_path / "out", support=support)


def test_known_folder_without_crystals(prepared, tmp_path):
    with pytest.raises(MatmlError, match="run `matml structures ingest`"):
        screen(prepared, tmp_path / "out", "--known", tmp_path)
    # one that another command wrote
    with pytest.raises(MatmlError, match="run `matml structures ingest`"):
        screen(prepared, tmp_path / "out", "--known", prepared / "candidates")


@pytest.mark.parametrize("packed", [False, True])
def test_own_labels_are_known_as_own_under_another_id(prepared, tmp_path, ridge, packed):
    known = read_table(prepared / "structures" / "structures.parquet")
    rows = known[(known["duplicate_of"] == "") & known[PROPERTY].between(1.8, 2.4)].head(7)
    folder = tmp_path / "own"
    folder.mkdir()
    names = [f"mine_{n}.cif" for n in range(len(rows))]
    for name, (_, row) in zip(names, rows.iterrows(), strict=True):
        cell = structure_of(row["lattice"], row["frac_coords"], row["atomic_numbers"])
        cell.to(folder / name)
    if packed:
        # labels name structures by their paths, inside a zip, too
        with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
            for name in names:
                archive.write(folder / name, f"deep/{name}")
    place = "own.zip/deep" if packed else "own"
    labels = [f"{place}/{name},{value}" for name, value in zip(names, rows[PROPERTY], strict=True)]
    support = tmp_path / "support.csv"
    support.write_text("\n".join([f"file,{PROPERTY}", *labels[:4]]))
    # one that is noted as it is read
    text = (folder / names[6]).read_text()
    (folder / names[6]).write_text(text.replace("  1\n", "  .\n"))
    screen(prepared, tmp_path / "out", support=support, candidates=folder)
    table = read_table(tmp_path / "out" / "shortlist.csv").set_index("id")
    assert table["in_support"].reindex(names).tolist() == [True] * 4 + [False] * 3
    assert table["duplicate_of"].reindex(names).tolist() == rows["id"].tolist()
    assert "read as 1" in table.loc[names[6], "notes"]
    check = json.loads((tmp_path / "out" / "summary.json").read_text())["check_on_known"]
    assert check["n"] == 3
