"""The benchmark of the properties: new families, new properties, other sources of energy."""
