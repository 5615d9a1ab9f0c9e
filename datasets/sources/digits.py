"""scikit-learn's 1,797 handwritten digits: 8×8 grey, 17 levels, shipped inside its wheel.

Source: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998 (its test part).
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

__all__ = ["Digits"]


class Digits:
    """The digits as an image sequence; levels 0…16 are scaled to 0…255."""

    class_names: tuple[str, ...] | None = tuple(str(digit) for digit in range(10))

    def __init__(self) -> None:
        """Load the digits out of the package."""
        digits = load_digits()
        self._pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target

    def __len__(self) -> int:
        return len(self._pixels)

    def image(self, index: int) -> Image.Image:
        """Digit `index`, mode L."""
        return Image.fromarray(self._pixels[index])

    def label(self, index: int) -> str:
        """The digit's name."""
        return str(self._labels[index])
