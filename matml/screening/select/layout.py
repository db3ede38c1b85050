"""Names of the files that a screening writes into its folder."""

SCORES, KEPT, STATE = "scores.parquet", "kept.parquet", "state.json"


QUARANTINE = "crystals/quarantine.csv"


DESCRIBED = 1000
"""Best rows of which stability and known neighbours are looked up."""
