"""Random changes of the samples that a network learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aiq_search.errors import InputError
from aiq_search.training.options import AugmentOptions

__all__ = ["Augmentation", "Mixing"]

# A transform of torchvision makes one draw for all samples that it is given. Drawing for each sample takes
# eight times as long; one draw a batch would make the batches unlike each other.
_GROUP = 8

_OF_IMAGES = ("shift", "rotation", "flip", "crop", "erase")


class Augmentation:
    """Changes raw images at random, with torch's global random state.

    Args:
        options: What is changed.
        shape: Of one sample.

    Raises:
        InputError: Something of it is for images, but the samples are none.

    Example:
        >>> mirror = Augmentation(AugmentOptions(flip=1.0), (1, 1, 3))
        >>> mirror(torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)).tolist()
        [[[[3, 2, 1]]]]
    """

    def __init__(self, options: AugmentOptions, shape: tuple[int, ...]) -> None:
        wanted = [name for name in _OF_IMAGES if getattr(options, name)]
        if wanted and len(shape) != 3:
            raise InputError(
                f"training.augment.{wanted[0]} changes images of shape (C, H, W), but a sample has the shape "
                f"{tuple(shape)}; leave it out."
            )
        self._transform = _transform(options, shape) if wanted else None

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self._transform is not None

    def __call__(self, raw: Tensor) -> Tensor:
        """A batch of raw samples (N, C, H, W), changed; the type stays as it is."""
        if self._transform is None:
            return raw
        return torch.cat([self._transform(group) for group in torch.split(raw, _GROUP)])


def _transform(options: AugmentOptions, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    # Half a second to import, which training without augmentation need not wait for.
    from torchvision.transforms import v2

    steps: list[Any] = []
    if options.crop:
        steps.append(v2.RandomResizedCrop(shape[1:], scale=(1 - options.crop, 1.0), antialias=True))
    if options.shift or options.rotation:
        steps.append(
            v2.RandomAffine(
                options.rotation,
                translate=(options.shift, options.shift),
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        )
    if options.flip:
        steps.append(v2.RandomHorizontalFlip(options.flip))
    if options.erase:
        steps.append(v2.RandomErasing(options.erase))
    return v2.Compose(steps)  # type: ignore[no-any-return]


class Mixing:
    """Mixes each sample of a batch with another of the batch (Zhang et al., 2018).

    A batch has one share. Cross entropy is linear in the label, so mixing the losses mixes the labels.

    Args:
        alpha: Of the beta distribution of the share; 0: nothing is mixed.
    """

    def __init__(self, alpha: float) -> None:
        self._share = torch.distributions.Beta(alpha, alpha) if alpha else None

    def __call__(
        self, inputs: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Mix a batch.

        Args:
            inputs: (N, …).
            labels: (N,).
            loss: Of logits and labels.

        Returns:
            The mixed inputs, and the loss of their logits.
        """
        if self._share is None:
            return inputs, lambda logits: loss(logits, labels)
        share = float(self._share.sample())
        mixed = inputs.lerp(inputs.roll(1, 0), 1 - share)
        others = labels.roll(1, 0)
        return mixed, lambda logits: share * loss(logits, labels) + (1 - share) * loss(logits, others)
