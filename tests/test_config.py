from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from matml.config.files import check_inputs, default_yaml, load, section_models, section_values
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


def test_an_empty_file_means_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("# nothing\n", encoding="utf-8")
    assert read_section(GraphsSection, file) == GraphsSection()
