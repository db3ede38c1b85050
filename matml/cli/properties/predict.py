"""`matml properties adapt`, `predict` and `ship`: a trained model in a user's hands."""

from pathlib import Path
from typing import NoReturn

import click

from matml.cli.options import FILE, FOLDER, RESULTS

ANY = click.Path(path_type=Path)
SHOWN = 10
"""Rows of the table that is printed."""


def use_options(command):
    """Add the options that using a model takes, whatever for."""
    for option in (
        click.option("--device", default="cpu", show_default=True, help="torch device."),
        click.option("--threads", default=1, show_default=True, help="Processors to use."),
        click.option(
            "--model", type=FOLDER, help="Folder of a trained model; by default the shipped one."
        ),
    ):
        command = option(command)
    return command


def prepare(threads: int) -> int:
    """Return the threads to use, after bounding those of torch."""
    import torch

    from matml.core.processors import usable_threads

    torch.set_num_threads(usable_threads(threads))
    return usable_threads(threads)


@click.command()
@click.option(
    "--support",
    "inputs",
    multiple=True,
    required=True,
    type=ANY,
    help="Labelled structures: anything that `structures ingest` reads, or a CSV of labels whose "
    "column `file` names structures; repeatable.",
)
@click.option("--labels", type=FILE, help="CSV of labels keyed by a column `id` or `file`.")
@click.option(
    "--property",
    "name",
    help="Column of the labels; may be left out if the model knows just one of the columns. A "
    "property that it does not know is learned from the labels alone.",
)
@click.option("--unit", help="Unit of a property of your own; by default the end of its name.")
@click.option(
    "--scale",
    type=click.Choice(["auto", "linear", "log"]),
    default="auto",
    show_default=True,
    help="Whether the logarithm of a property of your own is learned; by default the labels tell.",
)
@click.option(
    "--input",
    "own_inputs",
    multiple=True,
    help="Column beside the labels, such as a computed value, from which a property of your own is "
    "learned too; repeatable.",
)
@click.option(
    "--features",
    type=FILE,
    help="Table of features of the crystals, such as `matml potential describe` writes; a property "
    "of your own is learned from all of them.",
)
@click.option(
    "--with-features",
    "learned",
    type=FILE,
    help="What `learn-features` wrote: the labels weigh a stack with these features against the "
    "default.",
)
@click.option("--method", help="How to adapt; by default what did best on validation families.")
@click.option(
    "--trust-labels", is_flag=True, help="Accept labels that look as if they were in another unit."
)
@click.option(
    "--out",
    type=RESULTS,
    default="adapted",
    show_default=True,
    help="Folder of the adapted predictor.",
)
@use_options
def adapt(
    inputs,
    labels,
    name,
    unit,
    scale,
    own_inputs,
    features,
    learned,
    method,
    trust_labels,
    out,
    model,
    threads,
    device,
) -> None:
    """Adapt a trained model to a few labelled structures.

    Of one family, where the model knows the property; any number of any kind for another property.
    Writes card.json, support.parquet and quarantine.csv (what could not be used, and why).
    """
    import time

    start = time.perf_counter()
    from matml.core.errors import MatmlError
    from matml.core.files import read_table, write_table
    from matml.core.processors import usable_threads
    from matml.core.settings import validate
    from matml.properties.data.labelled import QUARANTINE, read_labelled
    from matml.properties.predictor.layout import model_folder, read_card
    from matml.structures.settings import StructuresSection

    # what cannot be used is told before torch is there, which takes seconds
    folder = model_folder(model)
    card = read_card(folder)
    settings = validate(StructuresSection, card["structures"], f"{folder}, structures")
    known = list(card["properties"])
    labelled = read_labelled(
        inputs, labels, settings, known, name, usable_threads(threads), own_inputs
    )
    if (learned is None) != (features is None) and labelled.property_name in known:
        raise MatmlError(
            f"{labelled.property_name}: the model knows it, so that features take both "
            "--with-features, what `matml properties learn-features` wrote, and --features"
        )
    prepare(threads)
    from matml.properties.features.learn import FeatureStack
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.properties.predictor.from_files import (
        adapt_to_files,
        labelled_with_features,
        save_adapted,
    )

    predictor = FewShotPredictor.load(model, device)
    stack = None if learned is None else FeatureStack.load(learned, predictor.training)
    if features is not None:
        table = read_table(features)
        labelled, own = labelled_with_features(labelled, table, stack, features)
        own_inputs = [*own_inputs, *own]
    write_table(out / QUARANTINE, labelled.quarantine)
    adapted = adapt_to_files(
        predictor,
        labelled,
        method=method,
        unit=unit,
        scale=scale,
        check_units=not trust_labels,
        inputs=own_inputs,
        features=stack,
    )
    save_adapted(adapted, out)
    unit = f" in {adapted.unit}" if adapted.unit else ""
    click.echo(
        f"adapted to {_count(adapted.shots, 'label')} of {adapted.property_name}{unit} (method "
        f"{adapted.method}) in {time.perf_counter() - start:.1f} s: {out}"
    )
    if (found := adapted.finding) is not None and adapted.shots:
        click.echo(
            f"evidence of the labels: the model as learned {found.as_learned:.2g}, with its mean "
            f"shifted {found.shifted:.2g}, the labels alone {found.alone:.2g}"
        )
    if learned is not None:
        click.echo(next(note for note in adapted.warnings if "against doing without" in note))
    if (
        families := labelled.table["common_name"]
        .where(labelled.table["common_name"] != "", labelled.table["prototype"])
        .value_counts()
        .to_dict()
    ):
        shown = ", ".join(f"{count} {family}" for family, count in list(families.items())[:4])
        more = f" and {len(families) - 4} more" if len(families) > 4 else ""
        click.echo(f"families of the support: {shown}{more}")
    _say_quarantine(labelled.quarantine, out / QUARANTINE)


@click.command()
@click.option("--adapted", type=FOLDER, help="Folder that `adapt` wrote.")
@click.option(
    "--structures",
    "inputs",
    multiple=True,
    required=True,
    type=ANY,
    help="What to predict: anything that `structures ingest` reads; repeatable.",
)
@click.option(
    "--labels",
    type=FILE,
    help="CSV keyed by a column `id` or `file` with what was adapted to by --input.",
)
@click.option("--features", type=FILE, help="Table of features, of a predictor adapted with such.")
@click.option("--property", "name", help="Property's column, where nothing was adapted.")
@click.option(
    "--out",
    type=FILE,
    default="predictions.csv",
    show_default=True,
    help="Table to write, CSV or Parquet.",
)
@click.option("--quarantine", type=FILE, help="Default: quarantine.csv beside the table.")
@use_options
def predict(
    adapted, inputs, labels, features, name, out, quarantine, model, threads, device
) -> None:
    """Predict structures with an adapted predictor, or with a model as it is.

    Low and high bound the 90 % interval. Crystals outside the model's domain are flagged.
    """
    import time

    start = time.perf_counter()
    from matml.core.errors import MatmlError
    from matml.core.files import write_table
    from matml.core.processors import usable_threads
    from matml.core.settings import validate
    from matml.properties.data.labelled import QUARANTINE
    from matml.properties.predictor.layout import model_folder, open_adapted, read_card
    from matml.structures.ingest import gather
    from matml.structures.io.read import read_inputs
    from matml.structures.settings import StructuresSection

    # what cannot be used is told before torch is there, which takes seconds
    if missing := [path for path in inputs if not path.exists()]:
        raise MatmlError(f"{missing[0]}: no such file or folder")
    folder = model_folder(model) if adapted is None else open_adapted(adapted, model)[1]
    card, place = read_card(folder), quarantine or out.parent / QUARANTINE
    settings = validate(StructuresSection, card["structures"], f"{folder}, structures")
    gathered = gather(read_inputs(inputs, settings), settings, labels, usable_threads(threads))
    if gathered.table.empty:
        _refuse_all(gathered.quarantine, place)
    prepare(threads)
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.properties.predictor.from_files import load_adapted, predict_gathered

    if adapted is None:
        predictor = FewShotPredictor.load(model, device)
        chosen = predictor.adapt([], [], predictor.choose_property(name))
    else:
        chosen = load_adapted(adapted, model, device)
        if name not in (None, chosen.property_name):
            raise MatmlError(
                f"--property {name}: {adapted} was adapted to {chosen.property_name}; adapt to "
                f"{name}, or leave the option out"
            )
    table, refused = predict_gathered(chosen, gathered, inputs, labels, features)
    if table.empty:
        _refuse_all(refused, place)
    write_table(place, refused)
    write_table(out, table)
    unit = f" in {chosen.unit}" if chosen.unit else ""
    labels = f"after {_count(chosen.shots, 'label')}" if chosen.shots else "without any label"
    click.echo(
        f"{_count(len(table), 'structure')} predicted: {chosen.property_name}{unit}, {labels} "
        f"(method {chosen.method}), in {time.perf_counter() - start:.1f} s: {out}"
    )
    columns = ["id", "formula", "prediction", "low", "high", "distance", "in_domain"]
    click.echo(table[columns].head(SHOWN).to_string(index=False, float_format="{:.4g}".format))
    if len(table) > SHOWN:
        click.echo(f"… and {len(table) - SHOWN} more")
    if (noted := table[table["notes"] != ""]).size:
        first = noted.iloc[0]
        click.echo(
            f"{_count(len(noted), 'structure')} read with a note (column `notes`); the first, "
            f"{first['id']}: {first['notes']}"
        )
    if disordered := int(table["disordered"].sum()):
        click.echo(
            f"{_count(disordered, 'structure')} disordered, predicted as virtual crystals: the "
            "mean over what shares a site, which knows of no order (column `disordered`)"
        )
    if outside := int((~table["in_domain"]).sum()):
        first = table[~table["in_domain"]].iloc[0]
        click.echo(
            f"{outside} of {len(table)} are out of the domain; the first, {first['id']}: "
            f"{first['outside']} (column `outside`)"
        )
    _say_quarantine(refused, place)


@click.command()
@click.option("--model", required=True, type=FOLDER, help="Model that `export` wrote.")
@click.option("--out", required=True, type=FOLDER, help="Folder to ship, matml/models/default.")
@click.option("--licence", help="Licence of the training data, unless they are the embedded ones.")
@click.option("--benchmark", type=FILE, help="Records of `benchmark --json`, for the card.")
def ship(model, out, licence, benchmark) -> None:
    """Write the small, documented copy of a model that comes with matml."""
    from matml.properties.predictor.layout import read_card

    read_card(model)
    prepare(1)
    from matml.properties.predictor.ship import ship_model, size_of

    card = ship_model(model, out, licence=licence, benchmark=benchmark)
    click.echo(
        f"{size_of(model) / 1e6:.1f} MB -> {size_of(out) / 1e6:.1f} MB: {out}; trained on "
        f"{card['training_crystals']} crystals of {card['training_families']} families, "
        f"{len(card['test_families'])} test families"
    )
    for name, entry in card["properties"].items():
        errors = [s for s in entry["scores"] if s["metric"] == "mae_family_mean"]
        shown = ", ".join(f"{s['value']:.3f} at K = {s['shots']}" for s in errors)
        unit = f" {errors[0]['unit']}" if errors else ""
        click.echo(f"  {name} ({entry['method']}): error{unit} {shown or 'not tested'}")


@click.command("learn-features")
@click.option(
    "--structures",
    required=True,
    type=FOLDER,
    help="Folder of `structures ingest` with the crystals that the model was trained on.",
)
@click.option(
    "--features",
    required=True,
    type=FILE,
    help="Table of theirs, such as `matml potential describe` writes, or any with a column `id`.",
)
@click.option("--property", "name", help="One that the model knows.")
@click.option("--seed", default=0, show_default=True, help="Seed of random choices.")
@click.option("--out", required=True, type=FILE, help="File to write, .safetensors.")
@use_options
def learn(structures, features, name, seed, out, model, threads, device) -> None:
    """Learn what features, such as a potential's, add to a property that a model knows."""
    import time

    start = time.perf_counter()
    from matml.core.files import read_table
    from matml.properties.predictor.layout import model_folder, read_card
    from matml.structures.settings import STRUCTURES, TABLE

    read_card(model_folder(model))
    table = read_table(features)
    crystals = read_table(structures / TABLE, STRUCTURES)
    prepare(threads)
    from matml.properties.features.columns import with_any
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.structures.crystals import CrystalSet

    predictor = FewShotPredictor.load(model, device)
    name = predictor.choose_property(name)
    own = CrystalSet.from_table(with_any(table, crystals), predictor.encoder.graphs)
    learned = predictor.learn_features(own, table, name, seed=seed).save(out)
    click.echo(
        f"{len(learned.columns.names)} features of {_count(len(learned.rows), 'training crystal')} "
        f"taken up for {name} in {time.perf_counter() - start:.0f} s: {out}"
    )


def _count(number: int, noun: str) -> str:
    """Return "1 label", "2 labels"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _refuse_all(quarantine, place: Path) -> NoReturn:
    """Write what could not be used, which is all, and raise an error with the first reason."""
    from matml.core.errors import MatmlError
    from matml.core.files import write_table

    write_table(place, quarantine)
    first = quarantine.iloc[0]
    raise MatmlError(
        f"{place}: none of the {len(quarantine)} structures can be used; the first, "
        f"{first['id']}: {first['reason']}; {first['remedy']}"
    )


def _say_quarantine(quarantine, place: Path) -> None:
    """Print how much could not be used, and the first reason."""
    if len(quarantine):
        first = quarantine.iloc[0]
        click.echo(
            f"{len(quarantine)} could not be used; the first, {first['id']}: {first['reason']}; "
            f"{first['remedy']} (all: {place})"
        )


COMMANDS = (adapt, predict, learn, ship)
