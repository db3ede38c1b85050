"""The crystal-graph property predictor across material families."""
