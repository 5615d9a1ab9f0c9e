"""torchvision's data sets by class name, downloaded where there is network."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torchvision
from PIL import Image

from datasets.config import TorchvisionSource
from datasets.errors import SourceError

__all__ = ["TorchvisionImages"]


class TorchvisionImages:
    """A classification data set of torchvision as an image sequence."""

    def __init__(self, config: TorchvisionSource) -> None:
        """Construct the data set, with a download where that is allowed and needed.

        Raises:
            SourceError: there is no such data set, it does not take these arguments, or it cannot be had.
        """
        kind = _data_set_class(config.name)
        arguments = _arguments(kind, config)
        try:
            self._data = kind(**arguments)
        except (OSError, RuntimeError, ImportError, ValueError, TypeError) as error:
            detail = " ".join(str(error).split())
            remedy = (
                f"run where its download is reachable, or put its files under source.root={config.root} and set "
                "source.download=false"
                if config.download
                else f"put its files under source.root={config.root}, or shard with source.download=true: a plan "
                "fetches nothing"
            )
            raise SourceError(f"torchvision's {config.name} cannot be had ({detail}). Either {remedy}") from None
        classes = getattr(self._data, "classes", None)
        self.class_names: Sequence[str] | None = _unique(classes) if classes is not None else None
        self._name = config.name

    def __len__(self) -> int:
        return len(self._data)

    def image(self, index: int) -> Image.Image:
        """Image `index`.

        Raises:
            SourceError: the data set gives no images.
        """
        image = self._data[index][0]
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        if not isinstance(image, Image.Image):
            raise SourceError(f"torchvision's {self._name} gives {type(image).__name__}, not images")
        return image

    def label(self, index: int) -> str | None:
        """Name of the class, or its number where the data set has no names.

        Raises:
            SourceError: the data set's target is no class.
        """
        target = _target(self._data, index)
        if target is None:
            return None
        if not isinstance(target, (int, np.integer)) and not (hasattr(target, "ndim") and target.ndim == 0):
            raise SourceError(f"torchvision's {self._name} has targets of {type(target).__name__}, not classes")
        return self.class_names[int(target)] if self.class_names is not None else str(int(target))


def _data_set_class(name: str) -> Any:
    known = [n for n in torchvision.datasets.__all__ if inspect.isclass(getattr(torchvision.datasets, n))]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise SourceError(f"torchvision {torchvision.__version__} has no data set {name!r}{hint}")
    return getattr(torchvision.datasets, name)


def _arguments(kind: Any, config: TorchvisionSource) -> dict[str, Any]:
    taken = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {}
    if "root" in taken:
        arguments["root"] = config.root
    if "download" in taken:
        arguments["download"] = config.download
    if config.split is None:
        return arguments
    if "split" in taken:
        return {**arguments, "split": config.split}
    if "train" in taken and config.split in ("train", "test"):
        return {**arguments, "train": config.split == "train"}
    allowed = "'train' or 'test'" if "train" in taken else "null: it has no splits"
    raise SourceError(f"torchvision's {config.name}: source.split must be {allowed}, got {config.split!r}")


def _target(data: Any, index: int) -> Any:
    """The target, without decoding the image where the data set has a list of targets."""
    for name in ("targets", "_labels", "labels"):
        targets = getattr(data, name, None)
        if targets is not None and len(targets) == len(data):
            return targets[index]
    item = data[index]
    return item[1] if isinstance(item, tuple) and len(item) > 1 else None


def _unique(names: Sequence[Any]) -> tuple[str, ...]:
    """Names as text; those that occur twice (ImageNet has two cranes) get their number."""
    texts = [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]
    return tuple(f"{text} ({i})" if texts.count(text) > 1 else text for i, text in enumerate(texts))
