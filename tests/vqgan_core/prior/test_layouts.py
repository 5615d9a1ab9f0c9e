"""Layouts: parts of images, mirroring, too many objects, and classes that have no token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vqgan_core.config import LayoutConfig
from vqgan_core.prior.layouts import Box, LayoutObject, layout_objects, layout_tokens

SMALL = LayoutConfig(codebook_size=101, max_objects=3)
SHARE = st.floats(0, 1)


@given(left=SHARE, top=SHARE, right=SHARE, bottom=SHARE, mirrored=st.booleans())
def test_a_cut_box_is_what_is_left_of_it(left: float, top: float, right: float, bottom: float, mirrored: bool) -> None:
    """Departure from the original, whose box keeps the width that was cut off on the left."""
    box = Box(min(left, right), min(top, bottom), abs(left - right), abs(top - bottom))
    part = Box(0.25, 0.5, 0.5, 0.5)
    inside = box.inside(part)
    assert 0 <= inside.left <= inside.right <= 1 + 1e-9
    assert 0 <= inside.top <= inside.bottom <= 1 + 1e-9
    if box.overlaps(part):
        back = Box(0.25 + inside.left / 2, 0.5 + inside.top / 2, inside.width / 2, inside.height / 2)
        expected = (max(box.left, 0.25), max(box.top, 0.5), min(box.right, 0.75), min(box.bottom, 1.0))
        assert (back.left, back.top, back.right, back.bottom) == pytest.approx(expected)
    else:
        assert layout_tokens([LayoutObject(0, box)], SMALL, 4, part=part, mirrored=mirrored) == [100] * 9


def test_the_first_objects_count() -> None:
    objects = [LayoutObject(number, Box(0, 0, 1, 1)) for number in range(5)]
    assert layout_tokens(objects, SMALL, 5)[::3] == [0, 1, 2]


def test_mirroring_twice_is_nothing() -> None:
    item = LayoutObject(2, Box(0.1, 0.2, 0.3, 0.4))
    mirrored = layout_tokens([item], SMALL, 5, mirrored=True)
    assert mirrored != layout_tokens([item], SMALL, 5)
    again = [seen._replace(box=seen.box.mirrored()) for seen in layout_objects(mirrored, SMALL, 5)]
    assert layout_tokens(again, SMALL, 5) == layout_tokens([item], SMALL, 5)


def test_what_has_no_token_is_refused() -> None:
    for category, flags in ((5, 0), (-1, 0), (4, 40)):
        with pytest.raises(ValueError, match=f"an object of class {category} with flags {flags}"):
            layout_tokens([LayoutObject(category, Box(0, 0, 1, 1), flags)], SMALL, 5)
    with pytest.raises(ValidationError, match="codebook_size 100 is a square"):
        LayoutConfig(codebook_size=100)
