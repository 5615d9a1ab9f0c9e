"""The plain baseline: the published architectures as one writes them first, in eager fp32 without cache.

Axes: B batch, C channels, H×W pixels, N tokens, D width, K entries.

Encoder and decoder of arXiv 2012.09841 §B with attention as a softmax of a full matrix; a GPT-2 with a mask, a
softmax and separate linear layers; sampling by a full forward pass for each token, or with a cache that is concatenated
at each step; a training step that follows the paper's order: one pass of the autoencoder for its own update, a second
one for the discriminator's. Nothing of ours is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it


class PlainBlock(nn.Module):
    """GroupNorm, x · sigmoid(x), convolution, twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, inputs, eps=1e-6), nn.GroupNorm(32, outputs, eps=1e-6)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual."""
        h = self.norm1(x)
        h = self.conv1(h * torch.sigmoid(h))
        h = self.norm2(h)
        return self.shortcut(x) + self.conv2(h * torch.sigmoid(h))


class PlainAttention(nn.Module):
    """One head over all places, with the whole matrix of weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Add what attention mixes."""
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(q.transpose(1, 2) @ k * q.shape[1] ** -0.5, dim=2)
        return x + self.out((v @ weights.transpose(1, 2)).view_as(x))


class PlainTokenizer(nn.Module):
    """Encoder, nearest entry, decoder."""

    def __init__(self, base: int, multipliers: tuple[int, ...], latent: int, entries: int) -> None:
        super().__init__()
        widths = [base * m for m in multipliers]
        layers: list[nn.Module] = [nn.Conv2d(3, base, 3, padding=1)]
        width = base
        for level, size in enumerate(widths):
            layers += [PlainBlock(width, size), PlainBlock(size, size)]
            width = size
            if level < len(widths) - 1:
                layers += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(size, size, 3, stride=2)]
        layers += [PlainBlock(width, width), PlainAttention(width), PlainBlock(width, width)]
        layers += [nn.GroupNorm(32, width, eps=1e-6), nn.SiLU(), nn.Conv2d(width, latent, 3, padding=1)]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(latent, latent, 1))
        layers = [nn.Conv2d(latent, latent, 1), nn.Conv2d(latent, width, 3, padding=1)]
        layers += [PlainBlock(width, width), PlainAttention(width), PlainBlock(width, width)]
        for level, size in reversed(list(enumerate(widths))):
            layers += [PlainBlock(width, size), PlainBlock(size, size), PlainBlock(size, size)]
            width = size
            if level:
                layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(size, size, 3, padding=1)]
        self.decoder = nn.Sequential(
            *layers, nn.GroupNorm(32, width, eps=1e-6), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1)
        )
        self.codebook = nn.Embedding(entries, latent)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and the index of the nearest entry of each."""
        latents = self.encoder(images)
        flat = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
        entries = self.codebook.weight
        distances = (flat**2).sum(1, keepdim=True) + (entries**2).sum(1) - 2 * flat @ entries.T
        return latents, distances.argmin(1).view(len(images), *latents.shape[2:])

    def decode(self, indices: Tensor) -> Tensor:
        """Images of indices."""
        return self.decoder(self.codebook(indices).permute(0, 3, 1, 2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions, and the loss of the codebook."""
        latents, indices = self.encode(images)
        entries = self.codebook(indices).permute(0, 3, 1, 2)
        loss = F.mse_loss(entries, latents.detach()) + 0.25 * F.mse_loss(latents, entries.detach())
        return self.decoder(latents + (entries - latents).detach()), loss


class PlainDiscriminator(nn.Sequential):
    """PatchGAN with three strided layers."""

    def __init__(self, base: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, base, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in ((base, 2 * base, 2), (2 * base, 4 * base, 2), (4 * base, 8 * base, 1)):
            layers += [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(8 * base, 1, 4, 1, 1))


class PlainGanStep:
    """The paper's training step: λ by two backward passes, and a second autoencoder pass for the discriminator."""

    def __init__(self, tokenizer: PlainTokenizer, base: int) -> None:
        self.tokenizer, self.discriminator = tokenizer, PlainDiscriminator(base)
        parts = (self.tokenizer, self.discriminator)
        self.first, self.second = (torch.optim.Adam(p.parameters(), lr=1e-4, betas=(0.5, 0.9)) for p in parts)

    def __call__(self, images: Tensor) -> None:
        """Update both."""
        reconstruction, codebook_loss = self.tokenizer(images)
        pixel = (images - reconstruction).abs().mean()
        adversarial = -self.discriminator(reconstruction).mean()
        last = self.tokenizer.decoder[-1].weight
        norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (pixel, adversarial)]
        weight = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()
        self.first.zero_grad()
        (pixel + 0.8 * weight * adversarial + codebook_loss).backward()
        self.first.step()
        reconstruction, _ = self.tokenizer(images)
        real, fake = self.discriminator(images), self.discriminator(reconstruction.detach())
        self.second.zero_grad()
        (0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())).backward()
        self.second.step()


class PlainLayer(nn.Module):
    """A GPT-2 layer with a mask and a softmax."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.register_buffer("mask", torch.tril(torch.ones(length, length)).bool())

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then the perceptron."""
        h, (batch, length, width) = self.norm1(x), x.shape
        q, k, v = (part(h).view(batch, length, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = q @ k.transpose(2, 3) * (width // self.heads) ** -0.5
        weights = torch.softmax(scores.masked_fill(~self.mask[:length, :length], float("-inf")), dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))

    def step(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One more position; its key and value go to the end of the earlier ones."""
        h, (batch, _, width) = self.norm1(x), x.shape
        q, k, v = (part(h).view(batch, 1, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        weights = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, 1, width))
        return x + self.mlp(self.norm2(x)), (k, v)


class PlainPrior(nn.Module):
    """A class, then tokens."""

    def __init__(self, entries: int, classes: int, tokens: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.num_tokens = tokens
        self.classes, self.tokens = nn.Embedding(classes, width), nn.Embedding(entries, width)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.layers = nn.Sequential(*(PlainLayer(width, heads, tokens) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, entries, bias=False)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Logits of each token from the class and those before."""
        x = torch.cat([self.classes(labels)[:, None], self.tokens(tokens)], dim=1)
        return self.head(self.norm(self.layers(x + self.positions[:, : x.shape[1]])))

    @torch.no_grad()
    def sample(self, labels: Tensor) -> Tensor:
        """Draw all tokens, each by a pass over everything before it."""
        tokens = labels.new_empty(len(labels), 0)
        for _ in range(self.num_tokens):
            probabilities = self(tokens, labels)[:, -1].softmax(dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1)], dim=1)
        return tokens

    @torch.no_grad()
    def sample_with_cache(self, labels: Tensor) -> Tensor:
        """Draw all tokens, each by a pass over the newest one, with the keys and values of those before it."""
        tokens = labels.new_empty(len(labels), 0)
        past: list[tuple[Tensor, Tensor] | None] = [None] * len(self.layers)
        newest = self.classes(labels)[:, None]
        for index in range(self.num_tokens):
            x = newest + self.positions[:, index : index + 1]
            for number, layer in enumerate(self.layers):
                x, past[number] = layer.step(x, past[number])
            probabilities = self.head(self.norm(x))[:, -1].softmax(dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1)], dim=1)
            newest = self.tokens(tokens[:, -1:])
        return tokens
