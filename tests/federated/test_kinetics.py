"""Laboratories that hand over sums alone learn what the pooled data would give (simulated)."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.bayes.empirical_bayes import learn_prior
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.federated.files import LaboratorySums, SharedPrior, merged
from matml.federated.kinetics import (
    Laboratory,
    begin,
    fingerprints,
    learn_together,
    population,
    step,
)
from matml.kinetics import Population
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.population import generic_prior

JMAK, REFERENCE = equation_named("jmak"), 900.0
NAMES = ("north", "east", "west")


def test_rounds_are_those_of_the_pooled_data(held, start, learned, tmp_path):
    """Through files, every round: to ten digits what one laboratory with all alloys learns."""
    laboratories = [Laboratory(start, held(name), name) for name in NAMES]
    everything = Laboratory(start, held("all"), "all")
    apart = together = start
    while not apart.converged:
        sums = []
        for laboratory in laboratories:
            laboratory.sums(apart).save(tmp_path / "sums.json")
            sums.append(LaboratorySums.load(tmp_path / "sums.json", apart))
        step(apart, merged(sums, NAMES)).save(tmp_path / "prior.json")
        apart, together = SharedPrior.load(tmp_path / "prior.json"), step(
            together, everything.sums(together)
        )  # fmt: skip
        for name in ("mean", "covariance"):
            one, other = getattr(apart.normal, name), getattr(together.normal, name)
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        assert apart.normal.noise == pytest.approx(together.normal.noise, rel=1e-10)
        assert apart.history == pytest.approx(together.history, rel=1e-10)
    assert together.converged
    assert (apart.alloys, apart.laboratories) == (12, sorted(NAMES))
    # files change no bit of it
    assert torch.equal(apart.normal.covariance, learned.normal.covariance)
    # and it is what EM gives where the data are
    tasks = to_tasks(held("all"), JMAK, REFERENCE)
    plain = learn_prior(tasks, generic_prior(JMAK, "fraction"), pseudo_tasks=2.0).prior
    torch.testing.assert_close(apart.normal.mean, plain.mean, rtol=1e-3, atol=1e-3)


def test_merged_sums_tell_no_laboratory_and_give_the_same(start, laboratories, learned):
    sums = [each.sums(learned) for each in laboratories]
    two = merged(sums[:2], NAMES[:2])
    whole = merged([two, sums[2]], ["two", "west"])
    assert sorted(whole.laboratories) == sorted(NAMES)
    direct = merged(sums, NAMES)
    torch.testing.assert_close(whole.sums.outer, direct.sums.outer, rtol=1e-12, atol=1e-12)


def test_the_population_calibrates(learned, tmp_path):
    population(learned).save(tmp_path / "population.json")
    known = Population.load(tmp_path / "population.json")
    frame = pd.DataFrame(
        {"temperature_K": [900.0], "time_s": [300.0], "fraction_transformed": [0.5]}
    )
    alloy = known.calibrate(frame)
    found = alloy.parameters.set_index("parameter")
    # one point says nothing of the exponent: the others do
    assert found.loc["avrami_exponent", "median"] == pytest.approx(1.8, rel=0.1)
    assert found.loc["half_time_s", "median"] == pytest.approx(300, rel=0.15)
    assert "learned from 12 alloys" in repr(known)


def damaged(part, **changes):
    return replace(part, sums=replace(part.sums, **changes))


def test_what_cannot_be_sums_is_refused(start, laboratories, held, tmp_path):
    north, east = (each.sums(start) for each in laboratories[:2])
    path, later = tmp_path / "sums.json", step(start, merged([north, east], NAMES[:2]))
    for changes, said in (
        ({"squared_noise": -1.0}, "a squared noise of -1"),
        ({"log_evidence": 1e12}, r"a log evidence of 1e\+12"),
        ({"offset": torch.full((3,), 1e20).double()}, "smaller than their means allow"),
        ({"outer": 1e12 * north.sums.outer}, "too large"),
        ({"outer": north.sums.outer.triu()}, "not symmetric"),
        ({"observations": 3}, "4 alloys, 3 observations"),
        ({"offset": north.sums.offset[:2]}, "not of 3 parameters"),
        ({"outer": -north.sums.outer}, "smaller than their means allow"),
        ({"tasks": 0}, "fingerprints of alloys do not fit"),
    ):
        damaged(north, **changes).save(path)
        with pytest.raises(MatmlError, match=rf"sums of north cannot be sums: .*{said}"):
            LaboratorySums.load(path, start)
    north.save(path)
    with pytest.raises(MatmlError, match="sums of north are under round 0, not under round 1"):
        LaboratorySums.load(path, later)
    for other in (("other", REFERENCE), ("test", REFERENCE + 1)):
        with pytest.raises(MatmlError, match="under another prior or study"):
            LaboratorySums.load(path, begin(JMAK, "fraction", other[1], other[0]))
    replace(north, fingerprints={}).save(path)
    with pytest.raises(MatmlError, match="do not fit"):
        LaboratorySums.load(path, start)
    north.save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"observations": 7}))
    with pytest.raises(MatmlError, match=r"sums\.json"):
        LaboratorySums.load(path, start)
    with pytest.raises(MatmlError, match="'north' is there twice"):
        merged([north, north], ["a", "b"])
    twin = Laboratory(start, held("north"), "south").sums(start)
    with pytest.raises(MatmlError, match="4 of the alloys of 'south' are those of 'north'"):
        merged([north, twin], ["a", "b"])
    with pytest.raises(MatmlError, match=r"1 alloy.*fewer than 3 would tell single alloys"):
        Laboratory(start, held("north"), "north", ["X0", "X3", "X6"])
    with pytest.raises(MatmlError, match="give --reference-temperature"):
        begin(JMAK, "fraction", None, "test")
    with pytest.raises(MatmlError, match="--reference-temperature nan: give kelvin"):
        begin(JMAK, "fraction", float("nan"), "test")
    for changes in ({"noise": 0.0}, {"covariance": -start.normal.covariance}):
        replace(start, normal=replace(start.normal, **changes)).save(tmp_path / "prior.json")
        with pytest.raises(MatmlError, match=r"noise are not finite|not positive definite"):
            SharedPrior.load(tmp_path / "prior.json")


def test_other_data_begin_the_comparison_anew(start, held, laboratories, learned):
    """A laboratory that takes an alloy more makes the evidence fall: that is no convergence."""
    fewer = [Laboratory(start, held("north"), "north", ["X0"]), *laboratories[1:]]
    first = step(start, merged([each.sums(start) for each in fewer], NAMES))
    then = step(first, merged([each.sums(first) for each in laboratories], NAMES))
    assert (len(first.history), len(then.history)) == (1, 1)
    assert not then.converged
    assert then.history[0] != first.history[0]
    assert learn_together(then, laboratories).normal.noise == pytest.approx(
        learned.normal.noise, rel=1e-2
    )


def test_the_order_of_files_and_the_spelling_of_names_count_for_nothing(start, held, laboratories):
    sums = [each.sums(start) for each in laboratories]
    one, other = merged(sums, NAMES), merged(sums[::-1], NAMES[::-1])
    assert torch.equal(one.sums.outer, other.sums.outer)
    assert step(start, one).key == step(start, other).key
    known = held("north")
    spelt = replace(
        known, alloys=known.alloys.assign(alloy=[f"x-{n[1:]} " for n in known.names], W_wt_pct=0.0)
    )
    assert fingerprints(known, "s") == fingerprints(spelt, "s")


def test_the_equation_of_another_version_is_refused(start, tmp_path):
    changed = replace(JMAK.parameters[0], high=2 * JMAK.parameters[0].high)
    other = replace(JMAK, parameters=(changed, *JMAK.parameters[1:]))
    replace(start, equation=other).save(tmp_path / "prior.json")
    with pytest.raises(MatmlError, match="other parameters of equation 'jmak'"):
        SharedPrior.load(tmp_path / "prior.json")


def test_commands_from_start_to_a_calibrated_alloy(parts, tmp_path, matml):
    matml(
        "start --equation jmak --kind fraction --reference-temperature 900 --study s --out 0.json"
    )
    for name in NAMES[:2]:
        data = f"--data {parts}/{name}.csv --alloys {parts}/{name}-alloys.csv"
        told = matml(f"sums 0.json {data} --laboratory {name} --out {name}.json")
        assert f"round 0, {name}: 4 alloys, 36 observations" in told
    with pytest.raises(MatmlError, match="nothing of west; wait for them, or go on with --without"):
        matml("step 0.json north.json east.json --laboratory north --laboratory west --out 1.json")
    assert "round 1 (8 alloys of 2" in matml("step 0.json north.json east.json --out 1.json")
    for without, said in (("north", "its file is given, too"), ("nobody", "is none of")):
        with pytest.raises(MatmlError, match=said):
            matml(f"step 0.json north.json east.json --without {without} --out 1.json")
    data = f"--data {parts}/north.csv --alloys {parts}/north-alloys.csv"
    matml(f"sums 1.json {data} --laboratory north --out north1.json")
    with pytest.raises(MatmlError, match="round 1: nothing of east"):
        matml("step 1.json north1.json --out 2.json")
    assert "without east" in matml("step 1.json north1.json --without east --out 2.json")
    # who was left out once is asked for again
    matml(f"sums 2.json {data} --laboratory north --out north2.json")
    with pytest.raises(MatmlError, match="round 2: nothing of east"):
        matml("step 2.json north2.json --out 3.json")
    matml("merge 0.json north.json east.json --out both.json")
    matml("step 0.json both.json --out again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    with pytest.raises(MatmlError, match="round 0 is the generic prior"):
        matml("population 0.json --out p.json")
    assert "not learned to the end" in matml("population 1.json --out p.json")
    done = CliRunner().invoke(
        cli,
        f"kinetics calibrate --prior p.json --data {parts}/west.csv --out c".split(),
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert len(read_table(tmp_path / "c/X2/parameters.csv")) == 3
