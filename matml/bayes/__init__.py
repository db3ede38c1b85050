"""Learning from tasks with few parameters: priors, posteriors and their draws."""
