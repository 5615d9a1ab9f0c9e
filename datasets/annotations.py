"""Objects and their bounding boxes, from an annotation file beside the images.

The format is COCO's (Lin et al. 2014, arXiv 1405.0312): one JSON with `images` (id, file_name, width, height),
`annotations` (image_id, category_id, bbox as left, top, width, height in pixels) and `categories` (id, name). Boxes
become shares of the image; categories are numbered in the order of their ids; the largest objects of an image come
first, since those are what a prior is told when there are too many. `iscrowd` is the flag of a group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from datasets.errors import SourceError
from datasets.sources.filesystem import Remote

__all__ = ["AnnotatedImage", "AnnotatedObject", "Annotations", "read_annotations"]


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """An object; all four numbers of its box are shares of the image's width and height."""

    category: int
    left: float
    top: float
    width: float
    height: float
    is_group: bool


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image as it was annotated."""

    width: int
    height: int
    objects: tuple[AnnotatedObject, ...]
    """The largest first."""


@dataclass(frozen=True)
class Annotations:
    """A file of annotations, read."""

    sha256: str
    """Of the file."""
    class_names: tuple[str, ...]
    images: Mapping[str, AnnotatedImage]
    """By path in the source, or by file name."""

    def of(self, source_path: str) -> AnnotatedImage | None:
        """What is said of a source file; None: nothing."""
        return self.images.get(source_path) or self.images.get(PurePosixPath(source_path).name)


class _Image(BaseModel):
    id: int
    file_name: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[float, float, Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
    iscrowd: bool = False


class _Category(BaseModel):
    id: int
    name: str


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_annotations(url: str, endpoint_url: str | None = None) -> Annotations:
    """Read a COCO annotation file.

    Raises:
        SourceError: it cannot be read, is none, or names an image or category that it does not have.
    """
    remote = Remote(url, endpoint_url)
    with remote.explained("read the annotations"), remote.open() as stream:
        data = stream.read()
    try:
        coco = _Coco.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SourceError(f"{url} is no COCO annotation file: {place}: {first['msg']}") from None
    return Annotations(hashlib.sha256(data).hexdigest(), *_by_image(coco, url))


def _by_image(coco: _Coco, url: str) -> tuple[tuple[str, ...], dict[str, AnnotatedImage]]:
    categories = {item.id: number for number, item in enumerate(sorted(coco.categories, key=lambda item: item.id))}
    names = {item.id: item.name for item in coco.categories}
    about = {item.id: item for item in coco.images}
    objects: dict[int, list[AnnotatedObject]] = {item.id: [] for item in coco.images}
    for item in coco.annotations:
        if item.image_id not in objects or item.category_id not in categories:
            raise SourceError(
                f"{url} has an annotation of image {item.image_id} and category {item.category_id}, and lists no such "
                "image or category"
            )
        objects[item.image_id].append(_object(item, about[item.image_id], categories[item.category_id]))
    images = {
        item.file_name: AnnotatedImage(
            item.width, item.height, tuple(sorted(objects[item.id], key=lambda found: -found.width * found.height))
        )
        for item in coco.images
    }
    return tuple(names[number] for number in sorted(names)), images


def _object(item: _Annotation, image: _Image, category: int) -> AnnotatedObject:
    left, top, width, height = item.bbox
    return AnnotatedObject(
        category, left / image.width, top / image.height, width / image.width, height / image.height, item.iscrowd
    )
