"""Distributed hyperparameter search for the network with the best artificial intelligence quotient."""

__version__ = "0.1.0"
