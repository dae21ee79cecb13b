"""What the processor of this machine can do."""

from __future__ import annotations

import torch

AMX = bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False))
"""With these instructions the second step of RDP's small bf16-mixed training has a NaN loss, which is refused; the
cause is not known."""
