"""What a later stage would refuse, found beforehand: too few labels, families or members."""

from collections.abc import Sequence

import numpy as np

from matml.config.schema import Configuration
from matml.core.errors import MatmlError
from matml.kinetics.settings import KineticsSection
from matml.properties.data.targets import PROPERTIES
from matml.properties.dataset import learned_properties, learned_values, plan_split, refuse_few
from matml.screening.data.inputs import check_inputs, read_chunk, support_table, without_values
from matml.screening.data.reader import read_chunks
from matml.screening.data.support import draw_supports, read_supports
from matml.screening.generate.files import find_prototype
from matml.screening.objectives import learned_properties as screened_properties
from matml.screening.select.run import objectives_of
from matml.screening.settings import ScreeningSection
from matml.structures.duplicates import find_duplicates
from matml.structures.ingest import gather
from matml.structures.io.read import read_inputs
from matml.structures.settings import StructuresSection


def check_data(configuration: Configuration, origin: str) -> list[str]:
    """Read all crystals and observations, and check what the stages will make of them.

    Of crystals `split`, `candidates` and `support`; of alloys `prepare`.

    Returns
    -------
    list of str
        What will be learned from how much, in words.

    Raises
    ------
    MatmlError
        What the first of these stages to fail would say.
    """
    try:
        return [*_crystals(configuration), *_alloys(configuration.kinetics)]
    except MatmlError as error:
        raise MatmlError(f"{origin}: {error}") from None


def _alloys(settings: KineticsSection) -> list[str]:
    """Return the size of the data sets that are read from files."""
    found = []
    for name, dataset in settings.datasets.items():
        if dataset.observations is None:
            continue
        # torch comes with them
        from matml.kinetics.data.observations import read_observations
        from matml.kinetics.equations import equation_named

        own = read_observations(dataset.observations, dataset.alloys)
        equation_named(dataset.equation).observable(own.kind)
        found.append(f"{name}: {len(own.points)} observations of {len(own.names)} alloys")
    return found


def check_screened_inputs(
    screening: ScreeningSection,
    names: Sequence[str],
    known: Sequence[str],
    structures: StructuresSection,
) -> None:
    """Refuse inputs that screening would refuse, or find in none of the first candidates."""
    if not (inputs := screening.inputs):
        return
    check_inputs(inputs, names, known)
    if not screening.candidates:
        raise MatmlError(
            f"screening.inputs: candidates that are made have no {inputs[0]}; give your own by "
            "screening.candidates, as tables with that column"
        )
    chunk = next(read_chunks(screening.candidates, structures, columns=inputs))
    table, _, _ = read_chunk(chunk, structures, inputs)
    lacking, refused = without_values(table, inputs, {}) if len(table) else (np.zeros(1), [])
    if lacking.all():
        why = refused[0]
        raise MatmlError(f"screening.candidates, {why['id']}: {why['reason']}; {why['remedy']}")


def _crystals(configuration: Configuration) -> list[str]:
    own, learned = configuration.structures, configuration.properties
    gathered = gather(read_inputs(own.inputs, own), own, own.labels)
    gathered.refuse_nothing("structures.inputs")
    table, seed = gathered.table, configuration.seed
    table["duplicate_of"], _ = find_duplicates(table)
    items = learned_properties(table, learned.properties)
    split, episodes = plan_split(table, learned, seed)
    training = split.training_rows(table["family"].to_numpy())
    refuse_few(list(learned.properties), learned_values(table, items)[training])

    screening = configuration.screening
    if not screening.candidates:
        find_prototype(screening.family, table, screening)
    names = screened_properties(objectives_of(screening))
    if screening.support is not None:
        options = set(table["id"]), screening.candidates, screening.inputs
        given = read_supports(screening.support, names, *options)
        for name in names:
            if name not in given and name not in learned.properties:
                raise MatmlError(
                    f"{screening.support}: has no column {name!r}, which is neither among "
                    "properties.properties; add labels of what is screened for"
                )
            if name in given:
                own_inputs = [] if name in learned.properties else screening.inputs
                support_table(given[name], table, own, own_inputs)
    else:
        draw_supports(table, screening.family, names, screening.shots, seed)
    check_screened_inputs(screening, names, list(learned.properties), own)

    refused = (gathered.quarantine["dropped"] == "crystal").sum()
    found = [
        f"{len(table)} crystals of {table['family'].nunique()} families ({refused} cannot be "
        f"used): {len(split.test)} families for test, {len(split.validation)} for validation"
    ]
    for item in items:
        on = "" if item.name in PROPERTIES else f", learned on the scale of {item.scale_in_words}"
        test = episodes[(episodes["property"] == item.name) & (episodes["part"] == "test")]
        found.append(
            f"{item.name}: {table[item.name].notna().sum()} labels{on}; "
            f"test families with enough of them: {test['family'].nunique()}"
        )
    return found
