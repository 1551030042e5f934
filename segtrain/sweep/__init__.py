"""Searching hyperparameters: what is searched, who runs the trials, and what came of them."""
