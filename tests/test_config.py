import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from matml.cli.config import check
from matml.cli.run import run
from matml.config.files import (
    check_inputs,
    default_yaml,
    load,
    load_or_exit,
    section_models,
    section_values,
    with_own_names,
)
from matml.config.schema import Configuration
from matml.core.errors import MatmlError
from matml.core.settings import Section, read_section
from matml.structures.settings import GraphsSection

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "workflow").glob("config*.yaml"))


def models(model: type[BaseModel]):
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def test_the_shipped_defaults_are_in_step_with_the_models():
    # after a change of a model: `matml config defaults --out workflow/config.yaml`
    assert (ROOT / "workflow/config.yaml").read_text(encoding="utf-8") == default_yaml()
    assert read_section(Configuration, ROOT / "workflow/config.yaml") == Configuration()


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_are_valid(file):
    read_section(Configuration, file)


def test_every_setting_is_described():
    for model in models(Configuration):
        for name, field in model.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
            assert nested or field.description, f"{model.__name__}.{name}"


def test_sections_come_back_through_their_files(tmp_path):
    configuration = Configuration(seed=7)
    values = section_values(configuration)
    assert set(values) == set(section_models())
    for name, model in section_models().items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(values[name]), encoding="utf-8")
        section = read_section(model, file)
        if name == "run":
            assert section.seed == 7
        else:
            assert section == getattr(configuration, name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, r"sed: unknown key; known keys here are output_dir, seed"),
        ({"graphs": {"neighbors": 8}}, r"graphs\.neighbors: unknown key; .*neighbours"),
        ({"graphs": {"neighbours": 0}}, r"graphs\.neighbours = 0: .*greater than or equal to 1"),
        ({"graphs": {"neighbours": "many"}}, r"graphs\.neighbours = 'many': .*integer"),
        ({"seed": -1}, r"seed = -1"),
        ({"graphs": 3}, r"graphs = 3"),
    ],
)
def test_a_bad_value_names_key_value_and_what_is_allowed(values, message):
    with pytest.raises(MatmlError, match=message) as caught:
        load(values, "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_all_bad_keys_are_named_at_once():
    with pytest.raises(MatmlError, match=r"seed.*graphs\.neighbours"):
        load({"seed": -1, "graphs": {"neighbours": 0}}, "my.yaml")


def test_missing_inputs_are_named_with_their_key(tmp_path):
    there = tmp_path / "a.csv"
    there.write_text("x")
    values = {"structures": {"inputs": [str(there), str(tmp_path / "b.csv")]}}
    configuration = read_section(Configuration, None).model_validate(values)
    with pytest.raises(MatmlError, match=r"structures\.inputs\[1\] = '.*b\.csv': no such file"):
        check_inputs(configuration, "my.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not valid YAML"), ("- 1\n- 2\n", "must hold `key: value` lines")],
)
def test_broken_yaml_is_named(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MatmlError, match=message):
        read_section(GraphsSection, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: 1\ngraphs: {}\nseed: 2\n", "the key 'seed' is given twice, in lines 1 and 3"),
        (b"\nseed: 010\n", "010 in line 2 is no plain number"),
        (b"seed: 1:30\n", "1:30 in line 1 is no plain number"),
        (b"seed: 1_0\n", "1_0 in line 1 is no plain number"),
        (b"graphs: {neighbours: 8, neighbours: 9}", "'neighbours' is given twice"),
        (b"seed: yes\n", "seed = True: is yes or no"),
        (b"properties: {fine_tuning_steps: [yes, 2]}", r"fine_tuning_steps = \[True, 2\]: is yes"),
        (b"seed: .inf\n", "seed = inf: input should be a finite number"),
        (b"seed: 99999999999999999999\n", "less than or equal to 4294967295"),
        (b"a: " + b"[" * 3000, "is nested too deep"),
        (b"{a: " * 3000, "is nested too deep"),
        (b"1: 2\n", "the key 1 is no text"),
        (b"seed: \xff\n", "seed = 'ÿ'"),
        (b"\x00\x01\x02", "config.yaml"),
        (b"a: &a [1]\nseed: [*a, *a]\n", r"seed = \[\[1\], \[1\]\]"),
        (b"x: &x [*x]\nseed: *x\n", "seed = "),
    ],
)
def test_what_yaml_would_hide_is_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(MatmlError, match=message) as told:
        read_section(Configuration, path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_names_for_parts_of_a_configuration_are_understood(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("graphs: &own {neighbours: 8}\nstructures: {<<: {symprec_A: 0.02}}\n")
    found = read_section(Configuration, path)
    assert (found.graphs.neighbours, found.structures.symprec_A) == (8, 0.02)


def test_the_workflow_finds_a_key_that_a_file_gives_twice(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(SystemExit, match="'seed' is given twice"):
        load_or_exit({"seed": 2}, [ROOT / "workflow/config.yaml", path])
    found = CliRunner().invoke(run, ["--configfile", str(path), "-n"])
    assert isinstance(found.exception, MatmlError)


def test_the_properties_of_a_user_take_the_place_of_the_defaults(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("properties: {properties: {my_stiffness_GPa: 1.0}, members: 3}\n")
    # as Snakemake lays the file over the defaults
    both = {"properties": {"my_stiffness_GPa": 1.0, "band_gap_eV": 0.3}, "members": 3, "width": 8}
    merged = {"seed": 1, "properties": both}
    found = with_own_names(merged, [path], {})
    assert found["properties"] == both | {"properties": {"my_stiffness_GPa": 1.0}}
    assert found["seed"] == 1
    last = {"properties": {"properties": {"density": 2.0}}}
    assert with_own_names(merged, [path], last)["properties"]["properties"] == {"density": 2.0}
    assert with_own_names(merged, [], {}) == merged


OWN = """
structures: {inputs: [own.csv]}
properties:
  properties: {my_stiffness_GPa: 1.0}
  smallest_family: 6
  smallest_task: 4
  smallest_query: 2
  members: 2
  shots: [0, 2]
screening: {property: my_stiffness_GPa, family: cubic perovskite, shots: 3}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with crystals whose shear moduli bear a name that matml does not know."""
    table = pd.read_csv(ROOT / "data/crystals/elastic.csv.gz", comment="#")
    sites = table["poscar"].str.split("\n").str[6].str.split().map(lambda n: sum(map(int, n)))
    folder = tmp_path_factory.mktemp("own")
    few = table[sites.isin([2, 5])].groupby(sites).head(60)
    few = few.rename(columns={"shear_modulus_GPa": "my_stiffness_GPa"})
    few.drop(columns="bulk_modulus_GPa").to_csv(folder / "own.csv", index=False)
    support = "own/" + few["material_id"].head(3)
    pd.DataFrame({"id": support, "density": [1, 2, 3]}).to_csv(folder / "few.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("", "", "my_stiffness_GPa: 96 labels, learned on the scale of log10 of the value"),
        ("my_stiffness_GPa: 1.0", "hardness: 1.0", "no label column 'hardness', only my_stiffness"),
        ("smallest_family: 6", "smallest_family: 60", "0 families have at least 60 crystals"),
        (
            "shots: [0, 2]",
            "shots: [0, 80]",
            "none of .* validation families .* has 82 crystals",
        ),
        (
            "family: cubic perovskite",
            "family: garnet",
            "'garnet': no ingested crystal belongs to it",
        ),
        ("shots: 3}", "shots: 300}", "300 were asked for"),
        ("property: my_stiffness_GPa, ", "", "^mine.yaml: screening.property = refractive_index"),
        ("property: my_stiff", "property: my_stif", "among .* did you mean 'my_stiffness_GPa'"),
        ("properties: {my_stiff", "properties: {my_stif", "did you mean 'my_stifness_GPa'"),
        ("property: my_stiffness_GPa, ", "property: hue, support: few.csv, ", "no column 'hue'"),
    ],
)
def test_what_a_later_stage_would_refuse_is_found_at_once(own, monkeypatch, before, after, message):
    monkeypatch.chdir(own)
    text = OWN.replace(before, after) if before else OWN
    if "hardness" in after:
        text = text.replace("property: my_stiffness_GPa", "property: hardness")
    (own / "mine.yaml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(check, ["mine.yaml"])
    said = done.output if done.exit_code == 0 else str(done.exception)
    assert re.search(message, said), said
    assert (done.exit_code == 0) == (before == "")


def test_what_is_screened_for_may_be_learned_from_the_support_alone(own, monkeypatch):
    monkeypatch.chdir(own)
    text = OWN.replace("property: my_stiffness_GPa, ", "property: density, support: few.csv, ")
    (own / "mine.yaml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(check, ["mine.yaml"], catch_exceptions=False)
    assert "mine.yaml: valid" in done.output


@pytest.mark.parametrize(
    ("equation", "said"),
    [
        ("jmak", "mine: 4 observations of 2 alloys"),
        ("kissinger", "kissinger|Kissinger"),
        ("nothing", "nothing"),
    ],
)
def test_own_observations_are_read_too(own, monkeypatch, equation, said):
    monkeypatch.chdir(own)
    rows = [("a", 700, 60, 0.3), ("a", 700, 90, 0.5), ("b", 720, 60, 0.4), ("b", 720, 90, 0.7)]
    columns = ["alloy", "temperature_K", "time_s", "fraction_transformed"]
    pd.DataFrame(rows, columns=columns).to_csv(own / "points.csv", index=False)
    sets = f"kinetics: {{datasets: {{mine: {{equation: {equation}, observations: points.csv}}}}}}"
    (own / "mine.yaml").write_text(OWN + sets, encoding="utf-8")
    done = CliRunner().invoke(check, ["mine.yaml"])
    told = done.output if done.exit_code == 0 else str(done.exception)
    assert re.search(said, told), told
    assert (done.exit_code == 0) == (equation == "jmak")


def test_an_empty_file_means_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("# nothing\n", encoding="utf-8")
    assert read_section(GraphsSection, file) == GraphsSection()
