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

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Restored images (N, C, H, W), not clamped.

        Args:
            x: images (N, C, H, W).
            hidden: which patches not to look at, (N, T), the same number in each image.

        Raises:
            ValueError: a side that is no multiple of the patch.
        """
        patches = patchify(x, self.patch)
        rows, columns = (side // self.patch for side in x.shape[2:])
        place = positions(rows, columns, self.width).to(patches)
        if self.masking == "pixels":
            seen = self.encoder(self.embed(patches.masked_fill(hidden[..., None], 0)) + place)
            restored = self.decoder(seen + place)
        else:
            restored = self.decoder(self._filled(self.embed(patches) + place, hidden) + place)
        return unpatchify(self.head(restored), (x.shape[2], x.shape[3]), self.patch)

    def _filled(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Encoded tokens of what is seen, the learned token elsewhere."""
        n, _, width = tokens.shape
        encoded = self.encoder(tokens[~hidden].view(n, -1, width))
        filled = self.hidden_token.expand_as(tokens).clone()
        filled[~hidden] = encoded.reshape(-1, width)
        return filled
