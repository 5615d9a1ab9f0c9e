"""SimVQ: one map moves all entries; the codebook itself is frozen."""

from __future__ import annotations

import torch
from torch import Tensor

from vqgan_core.config import SimvqQuantizerConfig
from vqgan_core.quantizers import SimvqQuantizer

NUM_ENTRIES, WIDTH = 9, 3


def quantizer(**config: object) -> SimvqQuantizer:
    torch.manual_seed(0)
    return SimvqQuantizer(NUM_ENTRIES, WIDTH, SimvqQuantizerConfig.model_validate(config))


def latents() -> Tensor:
    return torch.randn(2, WIDTH, 4, 5, generator=torch.Generator().manual_seed(1))


def test_nearest_mapped_entry() -> None:
    made, z = quantizer(), latents()
    entries = (made.codebook.double() @ made.map.weight.double().T).detach()
    rows = z.permute(0, 2, 3, 1).double()
    nearest = (rows[..., None, :] - entries).square().sum(-1).argmin(-1)
    result = made(z)
    assert torch.equal(result.indices, nearest)
    assert torch.equal(made.encode(z), nearest)
    torch.testing.assert_close(result.quantized.detach(), entries[nearest].permute(0, 3, 1, 2).float())
    torch.testing.assert_close(made.decode(nearest), result.quantized)


def test_loss_moves_the_map_and_not_the_codebook() -> None:
    made, z = quantizer(commitment_weight=0.3), latents().requires_grad_()
    assert [name for name, _ in made.named_parameters()] == ["map.weight"]
    result = made(z)
    result.loss.backward()
    difference = z.detach() - made.decode(result.indices).detach()
    torch.testing.assert_close(result.loss.detach(), 1.3 * difference.square().mean())
    torch.testing.assert_close(z.grad, 0.3 * 2 * difference / difference.numel())
    rows = difference.permute(0, 2, 3, 1).reshape(-1, WIDTH)
    expected = -2 / difference.numel() * rows.T @ made.codebook[result.indices.flatten()]
    torch.testing.assert_close(made.map.weight.grad, expected)


def test_training_brings_entries_that_nothing_chose_along() -> None:
    made = quantizer()
    target = latents() + 3
    before, chosen = made.entries, made.encode(target).unique()
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    made(target).loss.backward()
    optimizer.step()
    unchosen = [index for index in range(NUM_ENTRIES) if index not in chosen]
    assert unchosen
    assert bool((made.entries[unchosen] != before[unchosen]).any(dim=1).all())


def test_rotation() -> None:
    z, upstream = latents().requires_grad_(), torch.randn(2, WIDTH, 4, 5)
    quantizer(gradient="rotation")(z).quantized.backward(upstream)
    assert not torch.equal(z.grad, upstream)
