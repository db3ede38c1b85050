"""Names of the files that a screening writes into its folder."""

from matml.core.integrity.formats import Format

SCORES, KEPT, STATE = "scores.parquet", "kept.parquet", "state.json"
SHARD = Format("screened share of the candidates", 2, "run `matml screen` again")

QUARANTINE = "crystals/quarantine.csv"


DESCRIBED = 1000
"""Best rows of which stability and known neighbours are looked up."""
