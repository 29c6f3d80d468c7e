"""What mixes channels inside a block: the pointwise pairs of the families, and the merge."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.dense import dense_conv
from builders.layers import (
    BatchNorm,
    Mergeable,
    NormedConv,
    PreNormedConv,
    fold_after,
    like,
    pointwise_conv,
)
from builders.merge import push_bias, scale_output
from builders.response import native_response, respond


class PixelLinear(nn.Linear):
    """`nn.Linear` on the channels of every pixel of (B, C, H, W); the same parameters.

    It runs as a 1x1 convolution, which on channels_last maps is the same matrix product without a
    copy: where MKL does not know the processor oneDNN's is twice as fast (164 against 67 GF/s, 64
    images of 16 x 16, 32 to 128 channels, 1 thread of an AVX-512 EPYC, torch 2.13), and ONNX
    Runtime takes it without transposing the map.
    """

    backends: Backends = AUTO

    def forward(self, input: Tensor) -> Tensor:
        """Mix the channels."""
        weight = self.weight[:, :, None, None]
        return dense_conv(input, weight, self.bias, backends=self.backends)


class ResponseNorm(nn.Module):
    """Global response normalisation: y = x (1 + gamma n) + beta, n_c = |x_c| / mean_c |x_c|.

    |x_c| is the Euclidean norm of channel c over the map of one image.

    Source: ConvNeXt V2, arXiv 2301.00808, section 3. gamma and beta keep the four dimensions of the
    official code, where this decides that weight decay acts on them.
    """

    def __init__(self, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width)) if bias else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Rescale the channels of (B, C, H, W)."""
        return respond(x_BCHW, self.gamma, self.beta)


class Mlp(nn.Module):
    """y = W2 f(GELU(W1 x + b1)) [+ b2], f global response normalisation or nothing."""

    def __init__(
        self,
        expand: PixelLinear,
        project: PixelLinear,
        *,
        response: ResponseNorm | None = None,
        backends: Backends = AUTO,
    ) -> None:
        super().__init__()
        self.backends = backends
        self.expand = expand
        self.response = response
        self.project = project

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        hidden_BCHW: Tensor = self.expand(x_BCHW)
        y_BCHW: Tensor = self.project(self._activated(hidden_BCHW))
        return y_BCHW

    def _activated(self, hidden_BCHW: Tensor) -> Tensor:
        response = self.response
        if response is None:
            return F.gelu(hidden_BCHW)
        y_BCHW = native_response(hidden_BCHW, response.gamma, response.beta, self.backends)
        if y_BCHW is None:
            y_BCHW = response(F.gelu(hidden_BCHW))
        return y_BCHW


class NormedMlp(Mergeable):
    """y = s BN(W2 GRN(GELU(W1 x + b1))), s the layer scale, one number a channel, or 1.

    Source: UniRepLKNet, arXiv 2311.15599, official code.
    """

    def __init__(
        self, width: int, hidden: int, *, layer_scale: float = 0.0, backends: Backends = AUTO
    ) -> None:
        super().__init__()
        self.mlp = Mlp(
            PixelLinear(width, hidden),
            PixelLinear(hidden, width, bias=False),
            response=ResponseNorm(hidden),
            backends=backends,
        )
        self.norm = BatchNorm(width)
        self.scale = _layer_scale(width, layer_scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y_BCHW: Tensor = self.norm(self.mlp(x_BCHW))
        return y_BCHW if self.scale is None else y_BCHW * self.scale.view(1, -1, 1, 1)

    def merged(self) -> nn.Module:
        """Give the two layers with norm, layer scale and GRN's beta folded into the second."""
        expand, response, project = self.mlp.expand, self.mlp.response, self.mlp.project
        assert response is not None
        assert response.beta is not None
        weight = project.weight.double()
        bias = push_bias(weight, None, response.beta.double().flatten())
        weight, bias = _scaled(*fold_after(weight, bias, self.norm), self.scale)
        gain = ResponseNorm(expand.out_features, bias=False)
        gain.gamma = nn.Parameter(response.gamma.detach().clone())
        return Mlp(
            like(expand, expand.weight, expand.bias), like(project, weight, bias), response=gain
        )


class ScaledMlp(Mergeable):
    """y = s (W2 GELU(W1 x + b1) + b2), s the layer scale, one number a channel, or 1.

    Source: ConvNeXt, arXiv 2201.03545, official code; SLaK has the same.
    """

    def __init__(self, width: int, hidden: int, *, layer_scale: float = 0.0) -> None:
        super().__init__()
        self.mlp = Mlp(PixelLinear(width, hidden), PixelLinear(hidden, width))
        self.scale = _layer_scale(width, layer_scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y_BCHW: Tensor = self.mlp(x_BCHW)
        return y_BCHW if self.scale is None else y_BCHW * self.scale.view(1, -1, 1, 1)

    def merged(self) -> nn.Module:
        """Give the two layers with the layer scale folded into the second."""
        expand, project = self.mlp.expand, self.mlp.project
        weight, bias = _scaled(project.weight.double(), project.bias.double(), self.scale)
        return Mlp(like(expand, expand.weight, expand.bias), like(project, weight, bias))


class ConvFeedForward(nn.Module):
    """y = BN(W2 GELU(BN(W1 BN(x)))), W1 and W2 1x1 convolutions.

    Source: RepLKNet, arXiv 2203.06717, section 4.1, its ConvFFN without the shortcut.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = PreNormedConv(pointwise_conv(width, hidden))
        self.project = NormedConv(pointwise_conv(hidden, width))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y_BCHW: Tensor = self.project(F.gelu(self.expand(x_BCHW)))
        return y_BCHW


def _layer_scale(width: int, value: float) -> nn.Parameter | None:
    return nn.Parameter(torch.full((width,), value)) if value else None


def _scaled(weight: Tensor, bias: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    if scale is None:
        return weight, bias
    return scale_output(weight, scale.double()), bias * scale.double()
