"""Networks with searchable widths, by name or as ``package.module:function``."""

from aiq_search.models.build import MODELS, Architecture, build_model, check_argument_names, check_model_name
from aiq_search.models.cnn import cnn, cnn_1d
from aiq_search.models.lenet import lenet_5, lenet_300_100
from aiq_search.models.mlp import mlp
from aiq_search.models.mobilenet import mobilenet_v2
from aiq_search.models.resnet import resnet
from aiq_search.models.size import ModelSize, layer_outputs, model_size

__all__ = [
    "MODELS",
    "Architecture",
    "ModelSize",
    "build_model",
    "check_argument_names",
    "check_model_name",
    "cnn",
    "cnn_1d",
    "layer_outputs",
    "lenet_5",
    "lenet_300_100",
    "mlp",
    "mobilenet_v2",
    "model_size",
    "resnet",
]
