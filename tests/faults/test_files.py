"""A file whose bytes are not those that were written is refused by its name, or reads the same."""

import json
import random
import resource
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matml.core.errors import MatmlError, reason_of
from matml.core.files import TABLE, read_json, read_table, write_json, write_table
from matml.core.integrity.formats import Format
from matml.meta.checkpoint import content, copy_checkpoint, load_checkpoint, save_checkpoint
from matml.properties.data.split import Split
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.layout import CARD, FORMAT, SHIPPED
from matml.structures.crystals import CrystalSet
from matml.structures.graphs.store import FILE, GRAPHS, INDEX, GraphStore
from matml.structures.io.tables import parquet_parts
from matml.structures.settings import STRUCTURES

DAMAGES = 40
DOCUMENT = Format("test document", 3, "run `matml test` again")


@pytest.fixture(scope="module")
def crystals():
    """Six salts."""
    kinds = [("Fm-3m", 5.64), ("Pm-3m", 4.12)]
    return CrystalSet.from_structures(
        [
            Structure.from_spacegroup(group, Lattice.cubic(a), [metal, "Cl"], [[0] * 3, [0.5] * 3])
            for group, a in kinds
            for metal in ("Na", "K", "Cs")
        ]
    )


def columns(table):
    return {name: table[name].tolist() for name in table}


def graphs(path):
    return vars(GraphStore.open(path.parent))


NUMBERS = pd.DataFrame({"id": list("abcdefgh"), "value": np.linspace(0, 1, 8), "n": range(8)})
SPLIT = Split(("a", "b"), ("c",), {"d": 0, "e": 1}, 2)
TENSORS = {"weights": torch.linspace(0, 1, 60), "steps": torch.arange(5)}
# name of the file: how it is written (given crystals), and what is read of it
KINDS = {
    "document.json": (
        lambda path, _: write_json(path, {"seed": 3, "means": [0.25, 1e-9], "of": "x"}, DOCUMENT),
        lambda path: read_json(path, DOCUMENT),
    ),
    "split.json": (lambda path, _: SPLIT.write(path), Split.read),
    "table.parquet": (
        lambda path, _: write_table(path, NUMBERS),
        lambda path: columns(read_table(path, TABLE)),
    ),
    "structures.parquet": (
        lambda path, crystals: write_table(path, crystals.table, STRUCTURES),
        lambda path: columns(read_table(path, STRUCTURES)),
    ),
    "tensors.safetensors": (
        lambda path, _: save_checkpoint(path, TENSORS, {"epoch": 3}),
        load_checkpoint,
    ),
    FILE: (lambda path, crystals: crystals.graphs.save(path.parent), graphs),
    INDEX: (lambda path, crystals: crystals.graphs.save(path.parent), graphs),
}


def damage(whole: bytes, chance: random.Random) -> bytes:
    """One bit or byte other, the tail zero, a part gone or doubled."""
    spoilt, place = bytearray(whole), chance.randrange(len(whole))
    match chance.randrange(6):
        case 0 | 1:
            spoilt[place] ^= 1 << chance.randrange(8)
        case 2:
            spoilt[place] = chance.randrange(256)
        case 3:
            spoilt[place:] = bytes(len(whole) - place)
        case 4:
            del spoilt[place:]
        case _:
            spoilt[place:place] = spoilt[place : place + chance.randrange(1, 99)]
    return bytes(spoilt)


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_refused_or_changes_nothing(crystals, tmp_path, name):
    path, (write, read) = tmp_path / name, KINDS[name]
    write(path, crystals)
    expected, whole, chance = content(read(path)), path.read_bytes(), random.Random(name)
    refused = 0
    for _ in range(DAMAGES):
        path.write_bytes(damage(whole, chance))
        told = ""
        try:
            assert content(read(path)) == expected
        except MatmlError as error:
            told = str(error)
        assert not told or name in told
        refused += bool(told)
    assert refused > 0.7 * DAMAGES
    path.write_bytes(whole)
    assert content(read(path)) == expected


def test_what_is_written_twice_is_the_same_to_the_byte(crystals, tmp_path):
    for name, (write, _) in KINDS.items():
        texts = []
        for number in "ab":
            path = tmp_path / number / name
            path.parent.mkdir(exist_ok=True)
            write(path, crystals)
            texts.append(path.read_bytes())
        assert texts[0] == texts[1], name


def test_a_document_may_be_laid_out_anew_but_not_changed(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"mean": 0.1, "name": "ä"}, DOCUMENT)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(stored.items()))))
    assert read_json(path, DOCUMENT) == {"mean": 0.1, "name": "ä"}
    path.write_text(json.dumps(stored | {"mean": 0.2}))
    with pytest.raises(MatmlError, match=r"card\.json: is damaged, or was changed .*`matml test`"):
        read_json(path, DOCUMENT)


def test_another_version_is_refused_with_the_command_that_makes_it_again(
    crystals, tmp_path, monkeypatch
):
    write_json(tmp_path / "d.json", {"a": 1}, replace(DOCUMENT, version=2))
    with pytest.raises(MatmlError, match=r"version 2', .* reads .*version 3; run `matml test` ag"):
        read_json(tmp_path / "d.json", DOCUMENT)
    newer = replace(STRUCTURES, version=99)
    write_table(tmp_path / "structures.parquet", crystals.table, newer)
    crystals.graphs.save(tmp_path)
    with pytest.raises(MatmlError, match=r"version 99'.*run `matml structures ingest` again"):
        CrystalSet.open(tmp_path, tmp_path)
    # as before there were checksums
    crystals.table.to_parquet(tmp_path / "structures.parquet")
    with pytest.raises(MatmlError, match=r"says no format.*run `matml structures ingest` again"):
        CrystalSet.open(tmp_path, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("matml.structures.graphs.store.GRAPHS", replace(GRAPHS, version=99))
        crystals.graphs.save(tmp_path)
    with pytest.raises(MatmlError, match=r"version 99'.*run `matml structures graph` again"):
        GraphStore.open(tmp_path)


def test_tables_of_others_need_no_checksum_but_ours_keep_theirs(tmp_path):
    table = pd.DataFrame({"id": ["a"], "poscar": ["…"]})
    path = tmp_path / "candidates.parquet"
    table.to_parquet(path)
    assert len(read_table(path)) == 1
    write_table(path, table)
    spoilt = bytearray(path.read_bytes())
    spoilt[40] ^= 1
    path.write_bytes(spoilt)
    for read in (read_table, lambda path: list(parquet_parts(path, path, 10))):
        with pytest.raises(MatmlError, match=r"candidates\.parquet: is damaged"):
            read(path)


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(SHIPPED, tmp_path / "model")


@pytest.mark.parametrize("kind", ["zero tail", "one bit", "cut", "gone"])
def test_a_model_is_refused_by_the_name_of_its_damaged_file(model, kind):
    files = sorted(path for path in model.rglob("*") if path.is_file() and path.name != CARD)
    for path in files[::7]:
        whole = path.read_bytes()
        spoilt = {
            "zero tail": whole[:-40] + bytes(40),
            "one bit": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
            "cut": whole[:-1],
        }.get(kind)
        path.unlink() if spoilt is None else path.write_bytes(spoilt)
        with pytest.raises(MatmlError, match=path.name):
            FewShotPredictor.load(model)
        path.write_bytes(whole)


def test_an_edited_card_is_refused(model):
    path = model / CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    for change in (
        {"standardisation_mean": [0.0] * len(card["standardisation_mean"])},
        {"files": {}},
        {"members": 1},
    ):
        path.write_text(json.dumps(card | change), encoding="utf-8")
        with pytest.raises(MatmlError, match=r"card\.json: is damaged, or was changed"):
            FewShotPredictor.load(model)
    del card["checksum"]
    path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(MatmlError, match=r"card\.json: is damaged, or was changed"):
        FewShotPredictor.load(model)
    # a file of another training under the same name
    other, one = model / "member-1/pretrained.safetensors", model / "member-0"
    path.write_bytes((SHIPPED / CARD).read_bytes())
    shutil.copy(one / "pretrained.safetensors", other)
    with pytest.raises(MatmlError, match=r"member-1/pretrained\.safetensors: is not the file"):
        FewShotPredictor.load(model)
    older = read_json(SHIPPED / CARD, FORMAT)
    write_json(path, older, replace(FORMAT, version=2))
    with pytest.raises(MatmlError, match=r"version 2'.*`matml run`"):
        FewShotPredictor.load(model)


def test_a_damaged_file_is_not_copied_into_a_model(tmp_path):
    path, to = tmp_path / "stack.safetensors", tmp_path / "model/stack.safetensors"
    save_checkpoint(path, TENSORS, {"epoch": 3})
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(MatmlError, match=r"stack\.safetensors: is damaged"):
        copy_checkpoint(path, to)
    assert not to.exists()
    path.write_bytes(whole)
    copy_checkpoint(path, to)
    assert to.read_bytes() == whole


def test_checks_cost_little(monkeypatch):
    import time

    def seconds():
        start = time.process_time()
        FewShotPredictor.load()
        return time.process_time() - start

    with_checks = min(seconds() for _ in range(3))
    monkeypatch.setattr("matml.properties.predictor.few_shot.check_files", lambda *_: None)
    monkeypatch.setattr("matml.meta.checkpoint.check_seal", lambda *_: None)
    assert with_checks < 1.5 * min(seconds() for _ in range(3)) + 0.05


RANDOM = np.random.default_rng(0).random(9_000)
WRITERS = {
    "x.safetensors": lambda path: save_checkpoint(path, {"a": torch.zeros(9_000)}, {}),
    "x.parquet": lambda path: write_table(path, pd.DataFrame({"a": RANDOM})),
    "x.csv": lambda path: write_table(path, pd.DataFrame({"a": RANDOM})),
    "x.json": lambda path: write_json(path, {"a": list(range(9_000))}, DOCUMENT),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, name):
    """A limit on the size of files stands in for a disk that is full."""
    path = tmp_path / name
    path.write_text("before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            WRITERS[name](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    assert reason_of(told.value) == (
        f"{path}: File too large; raise the limit (`ulimit -a` shows it) and run the command again"
    )
    full = OSError(28, "No space left on device", str(path))
    assert "free some space there" in reason_of(full)
    assert "permissions" not in reason_of(full)
    assert "permissions" in reason_of(PermissionError(13, "Permission denied", str(path)))
