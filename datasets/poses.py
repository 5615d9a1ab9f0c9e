"""Poses drawn as label maps: an annotation file of keypoints → one PNG for each image, to be kept beside it.

Axes: H×W pixels of an annotated image.

The format is COCO's (Lin et al. 2014, arXiv 1405.0312; keypoints of 2016): `annotations` with `keypoints` as x, y and
visibility of each point in pixels, `categories` with the points' names and a `skeleton` of pairs of points, counted
from 1. A point of visibility 0 was not annotated, and is not drawn.

A map's classes are 0 where nothing is, one for each limb of the skeletons in their order, and last one for all joints.
So a map says which limb is where, as OpenPose's colours do, and goes through the tokenizer of any label map. Limbs are
drawn by OpenCV in whole numbers (1/16 px): the same bytes on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from datasets.errors import SourceError
from datasets.sources.filesystem import Remote

__all__ = ["Pose", "PosedImage", "Poses", "pose_png", "read_poses"]

_MOST_CLASSES = 256
_FARTHEST_PX = 2**20
_SHIFT = 4
"""Bits behind the point of OpenCV's coordinates."""

Point = tuple[float, float] | None
"""x and y in px; None: not annotated."""
Limbs = tuple[tuple[int, int, int], ...]
"""Class of each, and the points that it joins, counted from 0."""


@dataclass(frozen=True, slots=True)
class Pose:
    """One body."""

    points: tuple[Point, ...]
    limbs: Limbs


@dataclass(frozen=True, slots=True)
class PosedImage:
    """An image as it was annotated."""

    height: int
    width: int
    poses: tuple[Pose, ...]
    """The largest first, so that the others are drawn over them."""


@dataclass(frozen=True)
class Poses:
    """A file of keypoints, read."""

    limb_names: tuple[str, ...]
    images: Mapping[str, PosedImage]
    """By path without extension."""

    @property
    def num_classes(self) -> int:
        """Of every map: nothing, the limbs, joints."""
        return len(self.limb_names) + 2

    def maps(self, width: float) -> Iterator[tuple[str, bytes]]:
        """The path of each image without extension, and its map as a PNG; limbs are `width` of the longer side wide.

        Raises:
            ValueError: a width that draws nothing, or over everything.
        """
        if not 0 < width <= 0.5:
            raise ValueError(f"width {width:g}: above 0, and at most 0.5 of the longer side")
        for path, image in self.images.items():
            yield path, pose_png(image, self.num_classes - 1, width)


class _Image(BaseModel):
    id: int
    file_name: str
    width: int = Field(ge=1, le=2**15)
    height: int = Field(ge=1, le=2**15)


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    keypoints: list[Annotated[float, Field(ge=-_FARTHEST_PX, le=_FARTHEST_PX)]] = Field(default_factory=list)


class _Category(BaseModel):
    id: int
    name: str
    keypoints: list[str] = Field(default_factory=list)
    skeleton: list[tuple[int, int]] = Field(default_factory=list)


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_poses(url: str, endpoint_url: str | None = None) -> Poses:
    """Read a COCO file of keypoints.

    Raises:
        SourceError: it cannot be read, is none, or its parts do not fit together.
    """
    remote = Remote(url, endpoint_url)
    with remote.explained("read the keypoints"), remote.open() as stream:
        data = stream.read()
    try:
        coco = _Coco.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SourceError(f"{url} is no COCO keypoint file: {place}: {first['msg']}") from None
    limbs, names = _limbs(coco.categories, url)
    return Poses(names, _by_image(coco, limbs, url))


def pose_png(image: PosedImage, joint: int, width: float) -> bytes:
    """An image's map: its bodies in their order, and the class `joint` on their points."""
    levels: NDArray[np.uint8] = np.zeros((image.height, image.width), np.uint8)
    thickness = max(1, round(width * max(levels.shape)))
    for pose in image.poses:
        for limb, first, second in pose.limbs:
            ends = pose.points[first], pose.points[second]
            if ends[0] is not None and ends[1] is not None:
                cv2.line(levels, _fixed(ends[0]), _fixed(ends[1]), limb, thickness, cv2.LINE_8, _SHIFT)
        for point in pose.points:
            if point is not None:
                cv2.circle(levels, _fixed(point), thickness << _SHIFT, joint, cv2.FILLED, cv2.LINE_8, _SHIFT)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * (1 << _SHIFT)), round(point[1] * (1 << _SHIFT))


def _limbs(categories: Sequence[_Category], url: str) -> tuple[dict[int, tuple[int, Limbs]], tuple[str, ...]]:
    """By category the number of its points and its limbs; the names of all limbs."""
    found, names = {}, list[str]()
    for category in sorted(categories, key=lambda item: item.id):
        points, limbs = category.keypoints, []
        for ends in category.skeleton:
            if not all(1 <= end <= len(points) for end in ends):
                raise SourceError(
                    f"{url}: the skeleton of {category.name} joins the points {ends[0]} and {ends[1]}, and it has "
                    f"{len(points)}, counted from 1"
                )
            names.append(f"{category.name}: {points[ends[0] - 1]}-{points[ends[1] - 1]}")
            limbs.append((len(names), ends[0] - 1, ends[1] - 1))
        found[category.id] = (len(points), tuple(limbs))
    if not any(number for number, _ in found.values()):
        raise SourceError(f"{url}: no category has keypoints: give a file such as person_keypoints_train2017.json")
    if len(names) + 2 > _MOST_CLASSES:
        raise SourceError(f"{url}: {len(names)} limbs; a map of 8 bits holds {_MOST_CLASSES - 2}")
    return found, tuple(names)


def _by_image(coco: _Coco, limbs: Mapping[int, tuple[int, Limbs]], url: str) -> dict[str, PosedImage]:
    poses: dict[int, list[Pose]] = {item.id: [] for item in coco.images}
    for item in coco.annotations:
        if item.image_id not in poses or item.category_id not in limbs:
            raise SourceError(
                f"{url} has an annotation of image {item.image_id} and category {item.category_id}, and lists no such "
                "image or category"
            )
        number, own = limbs[item.category_id]
        if len(item.keypoints) not in (0, 3 * number):
            raise SourceError(
                f"{url}: an annotation of image {item.image_id} has {len(item.keypoints)} numbers for {number} "
                "keypoints: each has x, y and visibility"
            )
        triples = zip(*[iter(item.keypoints)] * 3, strict=True)
        points = tuple((x, y) if visible > 0 else None for x, y, visible in triples)
        if any(points):
            poses[item.image_id].append(Pose(points, own))
    found = {}
    for about in coco.images:
        path = PurePosixPath(about.file_name)
        if path.is_absolute() or ".." in path.parts:
            raise SourceError(f"{url}: file_name {about.file_name!r}: a path inside the folder of the images")
        bodies = sorted(poses[about.id], key=_extent, reverse=True)
        found[str(path.with_suffix(""))] = PosedImage(about.height, about.width, tuple(bodies))
    return found


def _extent(pose: Pose) -> float:
    """Area of the box around a body's points."""
    there = np.array([point for point in pose.points if point is not None])
    return float(np.prod(np.ptp(there, axis=0)))
