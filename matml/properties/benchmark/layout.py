"""Names of the folders of the benchmark."""

FAMILIES, RUN, POTENTIAL = "families.csv", "benchmark.json", "potential.safetensors"
