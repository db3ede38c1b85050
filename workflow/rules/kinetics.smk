# Kinetic equations across alloys.

KINETICS_RESULTS = []
