"""The perceptual hash of an image: 64 bits that hardly change when it is scaled, compressed or toned again.

Computed by the library ImageHash, of the canonical image before it is encoded. Equal pixels give equal hashes; images
without any structure all have the same one.

Keep this module's imports light: decoding children load it, and only those of a corpus that asks for hashes need more.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["perceptual_hash"]


def perceptual_hash(image: Image.Image, kind: str) -> int:
    """The hash of an image, by the name of a function of ImageHash: phash or dhash."""
    import imagehash  # noqa: PLC0415 - it takes a second, of every child

    function = {"phash": imagehash.phash, "dhash": imagehash.dhash}[kind]
    return int.from_bytes(np.packbits(function(image).hash).tobytes(), "big")
