"""What all tests share: where goldens and real data are, and an environment that does not leak in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.processes import Marked

if TYPE_CHECKING:
    from xdist.scheduler import Scheduling

    from tests.tiny import Published

SHARING_A_SERVER = {
    "Prefect": ("tests/flows/server/",),
    "Ceph": ("tests/datasets/store/test_real_gateways.py", "tests/tasks/test_ten_kills.py"),
}
"""Tests that share a server which takes long to start."""
LONGEST_FIRST = (
    "tests/flows/test_demo.py",
    "tests/flows/server/",
    "tests/tasks/test_ten_kills.py",
    "tests/tasks/test_together.py",
    "tests/flows/test_cli_run.py",
    "tests/flows/test_fan_out.py",
    "tests/vqgan_core/training/",
    "tests/flows/",
    "tests/tasks/",
)
"""What takes long, the longest first. Begun last, it would leave the other processes with nothing to do."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity", default=str(SHARED / "parity"), help="directory of golden cases with a manifest.json")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, they are dealt out in this order."""
    if hasattr(config, "workerinput"):
        places = {prefix: place for place, prefix in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: next((places[p] for p in places if item.nodeid.startswith(p)), len(places)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Each file in one process; files that need the same server in the same one, so that it is started once."""
    config.option.loadscopereorder = False  # by the number of a file's tests, which says nothing of its time
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - only where pytest-xdist is in use

    class ByFileOrServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            shared = (name for name, files in SHARING_A_SERVER.items() if nodeid.startswith(files))
            return next(shared, super()._split_scope(nodeid))

    return ByFileOrServer(config, log)


@pytest.fixture(scope="session")
def parity_dir(request: pytest.FixtureRequest) -> Path:
    """The directory of golden cases; tests skip by name where it is missing."""
    path = Path(request.config.getoption("--parity"))
    if not (path / "manifest.json").is_file():
        pytest.skip(f"no golden cases at {path}: give their directory with --parity DIR")
    return path


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"no {path}: this test needs the shared {name} directory beside the checkout")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images: clothing128.tar, emoji128.tar, hostile.tar."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Small real weights: LPIPS alex and squeeze, MobileNetV2."""
    return _shared("weights")


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """One thread: tests are small, and two spinning thread pools on a busy machine crawl."""
    torch.set_num_threads(1)


@pytest.fixture
def marked() -> Iterator[Marked]:
    """Child processes that are gone when the test is, whatever they started."""
    marked = Marked()
    yield marked
    marked.stop_all()


@pytest.fixture(scope="session")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 real digits as PNG files, a sub-folder a class. Never changed by a test."""
    from tests.tiny import write_digits  # noqa: PLC0415 - most tests need no pipeline

    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, digit_folder: Path) -> Published:
    """The tiny pipeline, run once without interruption. Never changed by a test: damage a `published.copy(…)`."""
    from tests import tiny  # noqa: PLC0415 - most tests need no pipeline

    config = tiny.tiny_config(tmp_path_factory.mktemp("published") / "store", digit_folder)
    return tiny.Published(config, tiny.build(config))
