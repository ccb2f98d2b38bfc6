"""The report's figures (plotly), each with a title and a sentence on how to read it."""

from aiq_search.report.figures.build import Picture, build_comparison, build_figures
from aiq_search.report.figures.champion import NetworkView
from aiq_search.report.figures.facts import StudyFacts

__all__ = ["NetworkView", "Picture", "StudyFacts", "build_comparison", "build_figures"]
