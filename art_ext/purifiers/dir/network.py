"""The masked auto-encoder of DIR: a ViT that restores an image of which it sees a part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.nn.vit import ViTBlock, patchify, positions, unpatchify

MASKINGS = ("tokens", "pixels")


class MaskedAutoEncoder(nn.Module):
    """Restores images from a part of their patches.

    Differs from the released code: fixed sine positions, so that any image size fits; no class token; each token gives
    its own patch, where the code's head mixes all tokens.

    Args:
        channels: image channels.
        patch: side of a patch in pixels.
        width: of the tokens.
        heads: of the attention.
        depth: blocks of the encoder.
        decoder_depth: blocks of the decoder.
        masking: "tokens" drops hidden patches before the encoder and gives the decoder a learned token for them (the
            released code); "pixels" sets them to zero in the image (Eq. 2 as it is printed).
    """

    def __init__(
        self, channels: int, patch: int, width: int, heads: int, depth: int, decoder_depth: int, masking: str
    ) -> None:
        super().__init__()
        self.patch, self.width, self.masking = patch, width, masking
        self.embed = nn.Linear(channels * patch**2, width)
        self.encoder = nn.Sequential(*(ViTBlock(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.decoder = nn.Sequential(*(ViTBlock(width, heads) for _ in range(decoder_depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, channels * patch**2)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, x: Tensor, hidden: Tensor, *, count: int | None = None) -> Tensor:
        """Restored images (N, C, H, W), not clamped.

        Args:
            x: images (N, C, H, W).
            hidden: which patches not to look at, (N, T), the same number in each image.
            count: that number; read from `hidden` unless given, for which a GPU has to be waited for.

        Raises:
            ValueError: a side that is no multiple of the patch, or masks of other images.
        """
        patches = patchify(x, self.patch)
        if hidden.shape != patches.shape[:2]:
            raise ValueError(f"expected masks of shape {tuple(patches.shape[:2])}, got {tuple(hidden.shape)}")
        rows, columns = (side // self.patch for side in x.shape[2:])
        place = positions(rows, columns, self.width).to(patches, non_blocking=True)
        if self.masking == "pixels":
            seen = self.encoder(self.embed(patches.masked_fill(hidden[..., None], 0)) + place)
            restored = self.decoder(seen + place)
        else:
            count = int(hidden[:1].sum()) if count is None else count
            restored = self.decoder(self._filled(self.embed(patches) + place, hidden, count) + place)
        return unpatchify(self.head(restored), (x.shape[2], x.shape[3]), self.patch)

    def _filled(self, tokens: Tensor, hidden: Tensor, count: int) -> Tensor:
        """Encoded tokens of what is seen, the learned token elsewhere."""
        torch._assert_async((hidden.sum(1) == count).all(), f"expected {count} hidden patches in each image")
        seen = hidden.to(torch.uint8).argsort(dim=1, stable=True)[:, : hidden.shape[1] - count]
        places = seen[..., None].expand(-1, -1, tokens.shape[2])
        encoded = self.encoder(tokens.gather(1, places))
        filled = self.hidden_token.expand_as(tokens)
        return filled.scatter(1, places, encoded.to(filled.dtype))
