"""A torch module's firing states: capture, exact counts, entropy, efficiency, aIQ."""

from aiq_search.statespace.capture import StateCapture
from aiq_search.statespace.counter import StateCounter
from aiq_search.statespace.counts import NeuronGroup, StateCounts
from aiq_search.statespace.entropy import aiq, entropy, layer_efficiency, network_efficiency
from aiq_search.statespace.measuring import evaluation_mode, measure
from aiq_search.statespace.report import EfficiencyReport, LayerReport

__all__ = [
    "EfficiencyReport",
    "LayerReport",
    "NeuronGroup",
    "StateCapture",
    "StateCounter",
    "StateCounts",
    "aiq",
    "entropy",
    "evaluation_mode",
    "layer_efficiency",
    "measure",
    "network_efficiency",
]
