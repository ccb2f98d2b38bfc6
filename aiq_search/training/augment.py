"""Random changes of the samples that a network learns from, with a draw of their own for each.

The transforms of torchvision make one draw for all samples that they are given. These do the same to a whole
batch at once, with a draw a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from aiq_search.errors import InputError
from aiq_search.training.options import AugmentOptions

__all__ = ["Augmentation", "Mixing", "warped"]

_OF_IMAGES = ("shift", "rotation", "flip", "crop", "erase")

# Of an erased rectangle: its share of the area, and its height by its width (Zhong et al., 2020).
_ERASED_AREA = (0.02, 0.33)
_ERASED_RATIO = (0.3, 3.3)


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
        [[[[3.0, 2.0, 1.0]]]]
    """

    def __init__(self, options: AugmentOptions, shape: tuple[int, ...]) -> None:
        wanted = [name for name in _OF_IMAGES if getattr(options, name)]
        if wanted and len(shape) != 3:
            raise InputError(
                f"training.augment.{wanted[0]} changes images of shape (C, H, W), but a sample has the shape "
                f"{tuple(shape)}; leave it out."
            )
        self._options = options
        self.changes = bool(wanted)
        """Whether it changes anything."""

    def __call__(self, raw: Tensor) -> Tensor:
        """A batch of raw samples (N, C, H, W), changed, as float32."""
        options, images = self._options, raw.float()
        if options.shift or options.rotation or options.crop:
            images = self._warped(images)
        if options.flip:
            mirrored = _each(torch.rand(len(images)) < options.flip, images)
            images = torch.where(mirrored, images.flip(-1), images)
        if options.erase:
            images = self._erased(images)
        return images

    def _warped(self, images: Tensor) -> Tensor:
        options, number = self._options, len(images)
        angles = _around_zero(number) * math.radians(options.rotation)
        sides = torch.sqrt(1 - options.crop * torch.rand(number))
        # A crop may be anywhere in the image.
        places = _around_zero(number, 2) * (1 - sides)[:, None] / 2
        return warped(images, angles, sides, places + _around_zero(number, 2) * options.shift)

    def _erased(self, images: Tensor) -> Tensor:
        """A rectangle of some of the images is set to 0."""
        number, (height, width) = len(images), images.shape[2:]
        areas = torch.empty(number).uniform_(*_ERASED_AREA) * height * width
        ratios = torch.empty(number).uniform_(*map(math.log, _ERASED_RATIO)).exp()
        inside = (torch.rand(number) < self._options.erase)[:, None, None]
        for axis, sizes in ((1, torch.sqrt(areas * ratios)), (2, torch.sqrt(areas / ratios))):
            length = images.shape[axis + 1]
            sizes = sizes.round().clamp(1, length)
            starts = torch.floor(torch.rand(number) * (length - sizes + 1))
            places = torch.arange(length) - starts[:, None]
            along = (places >= 0) & (places < sizes[:, None])
            inside = inside & along.unsqueeze(3 - axis)
        return images.masked_fill(inside[:, None].to(images.device), 0.0)


def warped(images: Tensor, angles: Tensor, sides: Tensor, places: Tensor) -> Tensor:
    """Turned and moved parts of images, in the size of the whole; 0 where there is no image.

    Args:
        images: (N, C, H, W) float32.
        angles: (N,), in radians, anticlockwise.
        sides: (N,), of the parts, as a share of the whole's.
        places: (N, 2): from the image's centre to the part's, to the right and down, as a share of the sides.

    Returns:
        (N, C, H, W), interpolated bilinearly.
    """
    height, width = images.shape[2:]
    cos, sin = sides * angles.cos(), sides * angles.sin()
    across = torch.stack([cos, -sin * height / width, 2 * places[:, 0]], 1)
    down = torch.stack([sin * width / height, cos, 2 * places[:, 1]], 1)
    where = functional.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, where.to(images.device), align_corners=False)


def _around_zero(*shape: int) -> Tensor:
    """Numbers from -1 to 1."""
    return 2 * torch.rand(*shape) - 1


def _each(chosen: Tensor, images: Tensor) -> Tensor:
    """A choice a sample, for all of its numbers."""
    return chosen[:, None, None, None].to(images.device)


class Mixing:
    """Mixes each sample of a batch with another of the batch (Zhang et al., 2018).

    A batch has one share. Cross entropy is linear in the label, so mixing the losses mixes the labels.

    Args:
        alpha: Of the beta distribution of the share; 0: nothing is mixed.
    """

    def __init__(self, alpha: float) -> None:
        self._share = torch.distributions.Beta(alpha, alpha) if alpha else None

    def draw(self) -> Tensor | None:
        """The share of a batch, or None if nothing is mixed."""
        return None if self._share is None else self._share.sample()

    def __call__(
        self, inputs: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor], share: Tensor | None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Mix a batch.

        Args:
            inputs: (N, …).
            labels: (N,).
            loss: Of logits and labels.
            share: Of the batch, as drawn, on its device.

        Returns:
            The mixed inputs, and the loss of their logits.
        """
        if share is None:
            return inputs, lambda logits: loss(logits, labels)
        mixed = inputs.lerp(inputs.roll(1, 0), 1 - share)
        others = labels.roll(1, 0)
        return mixed, lambda logits: share * loss(logits, labels) + (1 - share) * loss(logits, others)
