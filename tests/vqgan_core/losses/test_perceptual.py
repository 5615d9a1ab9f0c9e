"""LPIPS with real weights, and where weights come from."""

from __future__ import annotations

import http.server
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import Tensor, nn

from vqgan_core.config import LpipsConfig, NoPerceptualConfig
from vqgan_core.losses import Lpips, build_perceptual
from vqgan_core.weights import WeightsError


def package_network(net: str, state: dict[str, Tensor] | None = None) -> nn.Module:
    """The lpips package's own network, with its linear layers and the given state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    if state is not None:
        network.load_state_dict(state)
    return network


def weights_file(shared_weights: Path, net: str) -> Path:
    return shared_weights / f"lpips_{net}_v0.1_full_state.pth"


def real(shared_weights: Path, net: str) -> Lpips:
    return Lpips(LpipsConfig(net=net, weights=str(weights_file(shared_weights, net))))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of torch hub, and no network."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen keeps the proxies of its first call for ever
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 64, 48, generator=generator) * 2 - 1, torch.rand(2, 3, 64, 48, generator=generator) * 2 - 1


def test_squeeze_gives_the_published_distance(shared_weights: Path) -> None:
    """0.1024 is the value in torchmetrics' doctest: seed, then the network is built, then the images are drawn."""
    torch.manual_seed(42)
    package_network("squeeze")
    x, y = (torch.rand(10, 3, 100, 100) * 2 - 1 for _ in range(2))
    assert float(real(shared_weights, "squeeze")(x, y).mean()) == pytest.approx(0.1024, abs=5e-5)


@pytest.mark.parametrize("net", ["squeeze", "alex"])
def test_real_weights_agree_with_the_package(shared_weights: Path, pair: tuple[Tensor, Tensor], net: str) -> None:
    state = torch.load(weights_file(shared_weights, net), weights_only=True)
    expected = package_network(net, state)(*pair).flatten().detach()
    distance = real(shared_weights, net)
    assert torch.equal(distance(*pair), expected)
    assert torch.equal(distance.train()(*pair), expected), "the original's dropout comes alive in training"
    distance._frozen[0].train()
    assert torch.equal(distance(*pair), expected), "not even when the network itself is switched: there is none"
    assert torch.equal(distance(pair[0], pair[0]), torch.zeros(2))
    assert distance.weights_sha256() == real(shared_weights, net).weights_sha256()


def test_only_images_get_gradients(shared_weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    distance = real(shared_weights, "squeeze")
    x, y = pair[0].requires_grad_(), pair[1]
    distance(x, y).mean().backward()
    assert x.grad is not None
    assert bool(x.grad.abs().sum() > 0)
    assert bool(x.grad.isfinite().all())
    assert list(distance.parameters()) == []
    assert distance.state_dict() == {}, "a checkpoint does not carry it"
    assert all(p.grad is None and not p.requires_grad for p in distance._frozen[0].parameters())


def test_flat_images_have_finite_gradients(shared_weights: Path) -> None:
    """Handwritten digits are mostly one colour: features that are all zero must not divide by it."""
    distance = real(shared_weights, "alex")
    x = torch.full((1, 1, 32, 32), -1.0, requires_grad=True)
    distance(x, torch.full((1, 1, 32, 32), -0.5)).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_grey_images_are_repeated(shared_weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    distance = real(shared_weights, "squeeze")
    x, y = (image[:, :1] for image in pair)
    assert torch.equal(distance(x, y), distance(x.repeat(1, 3, 1, 1), y.repeat(1, 3, 1, 1)))


def test_always_fp32(shared_weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    distance = real(shared_weights, "squeeze")
    expected = distance(*pair)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(*pair), expected)
    assert torch.equal(nn.Sequential(distance).bfloat16()[0](*pair), expected), "weights are not rounded either"


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("squeeze", 17)])
def test_images_that_cannot_be_compared(shared_weights: Path, net: str, least: int) -> None:
    distance = real(shared_weights, net)
    assert distance(torch.zeros(1, 3, least, least), torch.zeros(1, 3, least, least)).shape == (1,)
    with pytest.raises(ValueError, match=f"at least {least} px"):
        distance(torch.zeros(1, 3, least - 1, 64), torch.zeros(1, 3, least - 1, 64))
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        distance(torch.zeros(1, 2, 64, 64), torch.zeros(1, 2, 64, 64))


@pytest.mark.parametrize(
    ("net", "model", "file"),
    [
        ("vgg", "vgg16", "vgg16-397923af.pth"),
        ("alex", "alexnet", "alexnet-owt-7be5be79.pth"),
        ("squeeze", "squeezenet1_1", "squeezenet1_1-b8a52dc0.pth"),
    ],
)
def test_imagenet_weights_come_from_torch_hubs_cache(
    hub: Path, pair: tuple[Tensor, Tensor], net: str, model: str, file: str
) -> None:
    """A file in torchvision's layout (random values), with the package's linear layers."""
    with torch.device("meta"):
        layout = torchvision.models.get_model(model, weights=None).features.state_dict()
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(value.shape, generator=generator) * 0.05 for name, value in layout.items()}
    hub.mkdir(parents=True)
    torch.save({f"features.{name}": value for name, value in features.items()}, hub / file)
    network = package_network(net)
    network.net.load_state_dict({name: features[name.split(".", 1)[1]] for name in network.net.state_dict()})
    distance = Lpips(LpipsConfig(net=net, weights="imagenet"))
    assert torch.equal(distance(*pair), network(*pair).flatten().detach())
    assert bool((distance(*pair) > 0).all())


@pytest.mark.parametrize("net", ["vgg", "alex", "squeeze"])
def test_no_weights_and_no_network_is_one_clear_error(hub: Path, net: str) -> None:
    with pytest.raises(WeightsError) as caught:
        build_perceptual(LpipsConfig(net=net))
    message = str(caught.value)
    assert "\n" not in message
    stem = {"vgg": "vgg16-397923af.pth", "alex": "alexnet", "squeeze": "squeezenet1_1"}[net]
    assert f"{hub}/{stem}" in message
    assert "is missing" in message
    assert "either put that file there" in message
    assert "or give the path or URL" in message
    assert list(hub.iterdir()) == [], "and nothing half-downloaded stays"


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.pth: there is no such file; give the path or URL"):
        Lpips(LpipsConfig(weights=str(tmp_path / "nothing.pth")))


def test_weights_of_another_net(shared_weights: Path) -> None:
    with pytest.raises(WeightsError, match="no state dict of LPIPS with net vgg"):
        Lpips(LpipsConfig(net="vgg", weights=str(weights_file(shared_weights, "alex"))))


class _Dangerous:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_foreign_files_are_not_unpickled(tmp_path: Path) -> None:
    torch.save({"net": _Dangerous(tmp_path / "pwned")}, tmp_path / "bad.pth")
    (tmp_path / "noise.pth").write_bytes(b"not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("bad.pth", "noise.pth", "list.pth"):
        with pytest.raises(WeightsError, match=name):
            Lpips(LpipsConfig(weights=str(tmp_path / name)))
    assert not (tmp_path / "pwned").exists()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # "shadows a builtin": the base's name
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real web server over a folder."""
    root = tmp_path / "www"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(root))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", root
        running.shutdown()


def test_weights_from_a_url(
    shared_weights: Path,
    server: tuple[str, Path],
    hub: Path,
    pair: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url, root = server
    for folder, net in (("one", "squeeze"), ("two", "alex")):  # two URLs that end alike
        (root / folder).mkdir()
        (root / folder / "full.pth").write_bytes(weights_file(shared_weights, net).read_bytes())
        distance = Lpips(LpipsConfig(net=net, weights=f"{url}/{folder}/full.pth"))
        assert torch.equal(distance(*pair), real(shared_weights, net)(*pair))
    (root / "one" / "full.pth").unlink()
    Lpips(LpipsConfig(net="squeeze", weights=f"{url}/one/full.pth"))  # from the cache
    with pytest.raises(WeightsError, match="404"):
        Lpips(LpipsConfig(net="squeeze", weights=f"{url}/three/full.pth"))


def test_none_is_none() -> None:
    assert build_perceptual(NoPerceptualConfig()) is None
