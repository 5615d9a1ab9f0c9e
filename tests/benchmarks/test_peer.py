"""Another checkout does the same work in its own process, with its own packages, and says what it cannot do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.peer import PeerError, peer_process

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This one, without a precision of sampling, as an older one would be."""
    root = tmp_path_factory.mktemp("peer")
    for package in ("vqgan_core", "datasets", "tasks", "flows"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    config = root / "vqgan_core" / "config" / "prior.py"
    text = config.read_text()
    told = '    precision: Annotated[Literal["fp32", "fp16"], LATER] = "fp32"'
    config.write_text(
        text.replace(told, "    precision: ClassVar[str] = 'fp32'").replace(
            "import Annotated", "import ClassVar, Annotated"
        )
    )
    assert config.read_text().count("ClassVar") == 2
    return root


def test_a_peer_does_our_work_with_its_own_models(checkout: Path) -> None:
    with peer_process(checkout, "coding", 1) as peer:
        assert peer.seconds(0) > 0
        assert peer.seconds(0) > 0
        assert peer.seconds(1) > 0
    (checkout / "vqgan_core" / "tokenizer" / "encoder.py").write_text("raise ValueError('another encoder')\n")
    with peer_process(checkout, "coding", 1) as peer, pytest.raises(PeerError, match="it has ended"):
        peer.seconds(0)
    shutil.copy(ROOT / "vqgan_core" / "tokenizer" / "encoder.py", checkout / "vqgan_core" / "tokenizer" / "encoder.py")


def test_what_it_cannot_do_is_said(checkout: Path) -> None:
    """Only the pair that asks for what it lacks fails; the suite goes on."""
    with peer_process(checkout, "sampling", 1) as peer:
        with pytest.raises(PeerError, match="precision"):
            peer.seconds(1)
        assert peer.seconds(6) > 0


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no checkout"), peer_process(tmp_path, "coding", 1):
        pass
