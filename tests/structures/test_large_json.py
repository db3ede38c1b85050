"""JSON files that are read entry after entry give what they give when read as a whole."""

import gzip
import json

import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.cli.structures import structures
from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.core.text.json_stream import JsonStream
from matml.structures.ingest import ingest
from matml.structures.settings import StructuresSection

COUNT = 60
VALUE = "refractive_index"


@pytest.fixture(scope="module")
def crystals():
    """Real crystals as dictionaries, with a label each."""
    table = pd.read_csv("data/crystals/dielectric.csv.gz").head(COUNT)
    held = [Structure.from_str(text, fmt="poscar").as_dict() for text in table["poscar"]]
    return held, [float(value) for value in table[VALUE]]


def split(held, values):
    rows = [list(row) for row in zip(held, values, strict=True)]
    return {"index": list(range(COUNT)), "columns": ["structure", VALUE], "data": rows}


FORMS = {
    # matbench and matminer
    "split": split,
    "records": lambda held, values: [
        {"structure": one, VALUE: value} for one, value in zip(held, values, strict=True)
    ],
    "list": lambda held, _: held,
    # the Materials Project's documents in a response
    "response": lambda held, _: {
        "meta": {"total": COUNT},
        "data": [{"material_id": f"mp-{i}", "structure": s} for i, s in enumerate(held)],
    },
    "by name": lambda held, _: {f"mp-{i}": one for i, one in enumerate(held)},
}


def taken_in(folder, settings):
    ingest([folder / "many.json.gz"], folder / settings.__class__.__name__, settings, threads=1)
    return read_table(folder / settings.__class__.__name__ / "structures.parquet")


@pytest.mark.parametrize("form", FORMS)
def test_large_files_give_what_small_ones_give(crystals, tmp_path, form, monkeypatch):
    # values then end in the middle of what is read at once
    monkeypatch.setattr("matml.core.text.json_stream.PART", 1000)
    text = json.dumps(FORMS[form](*crystals))
    (tmp_path / "many.json.gz").write_bytes(gzip.compress(text.encode()))
    whole = taken_in(tmp_path, StructuresSection())
    apart = taken_in(tmp_path, StructuresSection(max_file_MB=0.03))
    assert len(whole) == COUNT
    pd.testing.assert_frame_equal(apart, whole)
    assert (VALUE in whole) == (form in ("split", "records"))


def test_a_column_is_called_as_the_property_that_it_is(crystals, tmp_path):
    path = tmp_path / "matbench.json"
    path.write_text(json.dumps(split(*crystals) | {"columns": ["structure", "n"]}))

    def run(**given):
        ingest([path], tmp_path / "out", StructuresSection(**given), threads=1)
        return read_table(tmp_path / "out" / "structures.parquet")

    for size in (64.0, 0.1):
        table = run(rename={"n": VALUE}, max_file_MB=size)
        assert table[VALUE].tolist() == crystals[1]
    # settings that say nothing of it are written as before
    assert "rename" not in StructuresSection().model_dump()
    with pytest.raises(MatmlError, match=r"no table of .* has a column 'm'"):
        run(rename={"m": VALUE})
    with pytest.raises(MatmlError, match="has a column structure already"):
        run(rename={"n": "structure"})
    told = CliRunner().invoke(structures, ["ingest", str(path), "--out", "x", "--rename", "n"])
    assert "give COLUMN=PROPERTY" in told.output


def later(text, old, new):
    """Replace what first stands in the second half."""
    half = len(text) // 2
    assert old in text[half:]
    return text[:half] + text[half:].replace(old, new, 1)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: text[: len(text) * 3 // 4], "character"),
        (lambda text: later(text, '"abc": [', '"abc": [;'), "Expecting value, character"),
        (lambda text: later(text, '}, {"@module"', '}; {"@module"'), "';' in the place of ','"),
        (lambda text: later(text, '"charge"', '"@class"'), "the key '@class' is given twice"),
        (lambda text: text + "{}", "more follows after the end"),
    ],
)
def test_what_is_broken_is_told_and_what_stands_before_is_kept(crystals, tmp_path, spoil, told):
    (tmp_path / "many.json").write_text(spoil(json.dumps(crystals[0])))
    out = tmp_path / "out"
    ingest([tmp_path / "many.json"], out, StructuresSection(max_file_MB=0.02), threads=1)
    kept, refused = (read_table(out / x) for x in ("structures.parquet", "quarantine.csv"))
    assert COUNT / 4 < len(kept) <= COUNT
    assert len(refused) == 1
    assert refused["reason"][0].startswith(f"cannot be read on after {len(kept)} entries")
    assert told in refused["reason"][0]


def test_a_value_without_end_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("matml.core.text.json_stream.PART", 1000)
    path = tmp_path / "x.json"
    path.write_text('["' + "x" * 1_000_000 + '"]')
    with path.open() as file:
        stream = JsonStream(file, most=10_000)
        next(stream.elements())
        with pytest.raises(ValueError, match=r"a value of more than 0\.01 MB"):
            stream.value()
        assert file.tell() < 100_000
