"""Networks that are not ours, against the naive count."""

import pytest
import torch
from torch import nn

from aiq_search.statespace import StateCapture

from .naive import naive_counts

torchvision = pytest.importorskip("torchvision")

pytestmark = pytest.mark.slow


def compare(model, x, channels):
    model.eval()
    kinds = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
    kept, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            hook = lambda _m, _i, out, name=name: kept.__setitem__(  # noqa: E731
                name, (out[0] if isinstance(out, tuple) else out).clone()
            )
            handles.append(module.register_forward_hook(hook))
    with torch.inference_mode():
        with StateCapture(model) as capture:
            model(x)
        for handle in handles:
            handle.remove()
    found = capture.compute()
    assert set(found) == set(kept) - {capture.output_layer}
    for name, counts in found.items():
        axis = 1 if kept[name].ndim == 4 and channels else -1
        assert sorted(counts.counts.tolist()) == naive_counts(kept[name], axis), name
        assert counts.neurons == kept[name].shape[axis]
    return capture.output_layer


@pytest.mark.parametrize(("name", "output"), [("mobilenet_v2", "classifier.1"), ("resnet18", "fc")])
def test_a_convolutional_network_has_the_naive_counts(name, output):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=10)
    assert compare(model, torch.randn(3, 3, 64, 64), channels=True) == output


def test_a_transformer_block_has_the_naive_counts():
    torch.manual_seed(0)
    block = torchvision.models.vision_transformer.EncoderBlock(4, 32, 64, 0.0, 0.0)
    assert compare(block, torch.randn(3, 17, 32), channels=False) == "mlp.3"
