"""A torch module's firing states: capture, exact counts, entropy, efficiency, aIQ."""

from aiq_search.statespace.capture import StateCapture
from aiq_search.statespace.counter import StateCounter, StateCounts
from aiq_search.statespace.entropy import aiq, entropy, layer_efficiency, network_efficiency

__all__ = [
    "StateCapture",
    "StateCounter",
    "StateCounts",
    "aiq",
    "entropy",
    "layer_efficiency",
    "network_efficiency",
]
