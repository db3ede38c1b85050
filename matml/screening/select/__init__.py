"""From scores to a shortlist."""
