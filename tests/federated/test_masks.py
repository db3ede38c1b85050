"""Masked sums: each looks like noise, and the total is that of the open ones."""

import math
from dataclasses import replace

import pytest
import torch

from matml.core.errors import MatmlError
from matml.core.files import read_json
from matml.federated.files import SUMS, SharedPrior, merged
from matml.federated.kinetics import step
from matml.federated.masks import (
    MASKED,
    MODULUS,
    Keys,
    MaskedSums,
    load_and_merge,
    make_keys,
    merged_masked,
)

NAMES = ("north", "east", "west")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Each laboratory's keys, of files that were exchanged."""
    folder = tmp_path_factory.mktemp("keys")
    for name in NAMES:
        make_keys(name, folder / f"{name}.secret", folder / f"{name}.public")
    others = {name: [folder / f"{n}.public" for n in NAMES if n != name] for name in NAMES}
    found = {name: Keys.load(folder / f"{name}.secret", others[name]) for name in NAMES}
    found["folder"] = folder
    return found


def masked(laboratories, keys, prior):
    return [keys[each.name].mask(each.sums(prior)) for each in laboratories]


def test_around_a_ring_without_a_server_all_learn_what_the_pooled_data_give(
    start, laboratories, learned, keys, tmp_path
):  # fmt: skip
    """Each adds its masked sums to what its neighbour handed on; each makes the step itself."""
    path, priors = tmp_path / "sums.json", [start] * 3
    while not priors[0].converged:
        own = masked(laboratories, keys, priors[0])
        following = []
        for first in range(3):
            # whoever begins: integers add up to the same bits in any order
            running = own[first]
            for hop in (1, 2):
                running.save(path)
                running = merged_masked(
                    [MaskedSums.load(path, priors[first]), own[(first + hop) % 3]], ["one", "two"]
                )
            following.append(step(priors[first], running.total(priors[first], path)))
        assert {each.key for each in following} == {following[0].key}
        priors = following
    for name in ("mean", "covariance"):
        one, other = getattr(priors[0].normal, name), getattr(learned.normal, name)
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert priors[0].normal.noise == pytest.approx(learned.normal.noise, rel=1e-10)
    assert priors[0].round == learned.round


def test_a_masked_number_tells_nothing_and_no_mask_serves_twice(start, laboratories, keys, learned):
    """Bits are even, far from the sums, and other ones in another round or another roster."""
    north = laboratories[0].sums(start)
    numbers = keys["north"].mask(north).numbers
    bits = sum(number.bit_count() for number in numbers) / (len(numbers) * math.log2(MODULUS))
    assert bits == pytest.approx(0.5, abs=0.06)
    again = keys["north"].mask(replace(north, prior=learned.key)).numbers
    assert not {*numbers} & {*again}
    folder = keys["folder"]
    make_keys("south", folder / "south.secret", folder / "south.public")
    others = [folder / f"{name}.public" for name in ("east", "west", "south")]
    more = Keys.load(folder / "north.secret", others).mask(north)
    assert more.roster == ["east", "north", "south", "west"]
    assert not {*numbers} & {*more.numbers}


def test_what_cannot_be_unmasked_is_refused(start, laboratories, keys, parts, tmp_path):
    own, folder = masked(laboratories, keys, start), keys["folder"]
    two = merged_masked(own[:2], NAMES[:2])
    with pytest.raises(MatmlError, match=r"round 0: no masked sums of west, .*wait for them"):
        two.total(start, tmp_path)
    with pytest.raises(MatmlError, match="'north' is there twice"):
        merged_masked([own[0], own[0]], ["a", "b"])
    # a key made anew that the others do not have: masks are left over
    make_keys("west", tmp_path / "w.secret", tmp_path / "w.public")
    others = [folder / f"{name}.public" for name in NAMES[:2]]
    wrong = Keys.load(tmp_path / "w.secret", others).mask(laboratories[2].sums(start))
    with pytest.raises(MatmlError, match=r"the masks of .* do not cancel"):
        merged_masked([*own[:2], wrong], NAMES).total(start, tmp_path)
    with pytest.raises(MatmlError, match="give one of each other laboratory"):
        Keys.load(tmp_path / "w.secret", [*others, folder / "west.public"])
    with pytest.raises(MatmlError, match="masks need at least three"):
        Keys.load(tmp_path / "w.secret", others[:1])
    with pytest.raises(MatmlError, match="the secret key is of 'west', the sums are of 'north'"):
        keys["west"].mask(laboratories[0].sums(start))
    own[0].save(tmp_path / "north.json")
    laboratories[1].sums(start).save(tmp_path / "east.json")
    with pytest.raises(MatmlError, match=r"east\.json: is not masked"):
        load_and_merge([tmp_path / "north.json", tmp_path / "east.json"], start)
    later = step(start, merged([each.sums(start) for each in laboratories], NAMES))
    with pytest.raises(MatmlError, match="sums of north are under round 0, not under round 1"):
        load_and_merge([tmp_path / "north.json"], later)
    with pytest.raises(MatmlError, match=r"north\.json: format 'matml federated masked sums"):
        read_json(tmp_path / "north.json", SUMS)
    assert read_json(tmp_path / "north.json", MASKED)["roster"] == sorted(NAMES)
    assert (folder / "north.secret").stat().st_mode & 0o077 == 0


def test_commands_of_a_masked_round(parts, tmp_path, matml):
    """One of three does not answer: it is named, and the others repeat the round without it."""
    for name in (*NAMES, "south"):
        matml(f"key --laboratory {name} --secret {name}.secret --out {name}.public")
    matml(
        "start --equation jmak --kind fraction --reference-temperature 900 --study s --out 0.json"
    )

    def sums(name, present):
        data = f"--data {parts}/{name}.csv --alloys {parts}/{name}-alloys.csv"
        keys = " ".join(f"--with {other}.public" for other in present if other != name)
        matml(
            f"sums 0.json {data} --laboratory {name} --secret {name}.secret {keys} "
            f"--out {name}.json"
        )

    for name in NAMES:
        sums(name, (*NAMES, "south"))
    files = " ".join(f"{name}.json" for name in NAMES)
    with pytest.raises(MatmlError, match="no masked sums of south"):
        matml(f"step 0.json {files} --out 1.json")
    for name in NAMES:
        sums(name, NAMES)
    matml("merge 0.json north.json east.json --out two.json")
    assert "12 alloys of 3" in matml("step 0.json two.json west.json --out 1.json")
    first = SharedPrior.load(tmp_path / "1.json")
    assert first.laboratories == sorted(NAMES)
