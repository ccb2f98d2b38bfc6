"""The champion as files that outlive this package, and the proof that they are right."""

from aiq_search.export.bundle import Bundle, load_bundle
from aiq_search.export.check import Check, Verification
from aiq_search.export.contents import FORMATS, BundleContents
from aiq_search.export.documents import SeedMetrics, SpreadDocument
from aiq_search.export.errors import BundleError, BundleMismatchError
from aiq_search.export.prediction import Prediction, Predictions, predict
from aiq_search.export.verification import verify_bundle
from aiq_search.export.writing import copy_bundle, write_bundle

__all__ = [
    "FORMATS",
    "Bundle",
    "BundleContents",
    "BundleError",
    "BundleMismatchError",
    "Check",
    "Prediction",
    "Predictions",
    "SeedMetrics",
    "SpreadDocument",
    "Verification",
    "copy_bundle",
    "load_bundle",
    "predict",
    "verify_bundle",
    "write_bundle",
]
