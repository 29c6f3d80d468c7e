"""What mixes the channels in a block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runs.export.parts.layers import NormedConv, PreNormedConv, fold_after, pointwise


class SqueezeExcite(nn.Module):
    """y = x sigmoid(W2 ReLU(W1 mean(x))), the mean over the map.

    Source: Squeeze-and-Excitation Networks, arXiv 1709.01507, section 3.
    """

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, squeezed, 1)
        self.up = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Rescale each channel of each image of (B, C, H, W)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        gate: Tensor = self.up(F.relu(self.down(mean))).sigmoid()
        return x * gate


class Shortcut(nn.Module):
    """y = x + f(x), f the layers in turn with ReLU between them.

    It adds depth behind a depthwise kernel. Source: UniRepLKNet, arXiv 2311.15599, table 1.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the layers make of (B, C, H, W) to it."""
        y: Tensor = self.layers[0](x)
        for layer in self.layers[1:]:
            y = layer(F.relu(y))
        return x + y


class PixelLinear(nn.Linear):
    """A linear layer on the channels of every pixel: (B, C, H, W) to (B, outputs, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels, as a 1x1 convolution."""
        y: Tensor = F.conv2d(x, self.weight[:, :, None, None], self.bias)
        return y


class ResponseNorm(nn.Module):
    """Global response normalisation: y = x (1 + gamma n) + beta, n_c = |x_c| / mean_c |x_c|.

    |x_c| is the Euclidean norm of channel c over the map of one image.
    Source: ConvNeXt V2, arXiv 2301.00808, section 3.
    """

    def __init__(self, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Rescale the channels of (B, C, H, W)."""
        length = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        share = length / (length.mean(dim=1, keepdim=True) + 1e-6)
        y: Tensor = x * (1 + self.gamma.view(-1, 1, 1) * share)
        return y if self.beta is None else y + self.beta.view(-1, 1, 1)


class Mlp(nn.Module):
    """y = W2 f(GELU(W1 x + b1)) [+ b2] for every pixel, f the response norm or the identity."""

    def __init__(self, expand: nn.Module, response: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.expand = expand
        self.response = response
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y: Tensor = self.project(self.response(F.gelu(self.expand(x))))
        return y


def pixel_conv(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Give the 1x1 convolution with this weight (outputs, inputs, 1, 1), in a layer's dtype."""
    with torch.device("meta"):  # the weights are given, none are drawn
        conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=bias is not None)
    conv.weight = nn.Parameter(weight.detach().to(linear.weight))
    conv.bias = None if bias is None else nn.Parameter(bias.detach().to(linear.weight))
    return conv


class NormedMlp(nn.Module):
    """y = s BN(W2 GRN(GELU(W1 x + b1))), s the layer scale, one number a channel, or 1.

    Source: UniRepLKNet, arXiv 2311.15599.
    """

    def __init__(self, width: int, hidden: int, *, layer_scale: float = 0.0) -> None:
        super().__init__()
        self.mlp = Mlp(
            PixelLinear(width, hidden),
            ResponseNorm(hidden),
            PixelLinear(hidden, width, bias=False),
        )
        self.norm = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y: Tensor = self.norm(self.mlp(x))
        return y if self.scale is None else y * self.scale.view(-1, 1, 1)

    def merged(self) -> nn.Module:
        """Give the two layers with norm, layer scale and GRN's beta inside the second."""
        expand, response, project = self.mlp.expand, self.mlp.response, self.mlp.project
        assert isinstance(expand, PixelLinear)
        assert isinstance(response, ResponseNorm)
        assert isinstance(project, PixelLinear)
        assert response.beta is not None
        weight = project.weight.double()
        bias = weight @ response.beta.double().flatten()  # W2 (x + beta) = W2 x + W2 beta
        weight, bias = fold_after(weight[:, :, None, None], bias, self.norm)
        if self.scale is not None:
            scale = self.scale.double()
            weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale
        gain = ResponseNorm(expand.out_features, bias=False)
        gain.gamma = nn.Parameter(response.gamma.detach())
        first = pixel_conv(expand, expand.weight[:, :, None, None], expand.bias)
        return Mlp(first, gain, pixel_conv(project, weight, bias))


class ScaledMlp(nn.Module):
    """y = s (W2 GELU(W1 x + b1) + b2), s the layer scale, one number a channel, or 1.

    Source: ConvNeXt, arXiv 2201.03545.
    """

    def __init__(self, width: int, hidden: int, *, layer_scale: float = 0.0) -> None:
        super().__init__()
        self.mlp = Mlp(PixelLinear(width, hidden), nn.Identity(), PixelLinear(hidden, width))
        self.scale = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y: Tensor = self.mlp(x)
        return y if self.scale is None else y * self.scale.view(-1, 1, 1)

    def merged(self) -> nn.Module:
        """Give the two layers with the layer scale inside the second."""
        expand, project = self.mlp.expand, self.mlp.project
        assert isinstance(expand, PixelLinear)
        assert isinstance(project, PixelLinear)
        weight, bias = project.weight[:, :, None, None].double(), project.bias.double()
        if self.scale is not None:
            scale = self.scale.double()
            weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale
        first = pixel_conv(expand, expand.weight[:, :, None, None], expand.bias)
        return Mlp(first, nn.Identity(), pixel_conv(project, weight, bias))


class ConvFeedForward(nn.Module):
    """y = BN(W2 GELU(BN(W1 BN(x)))), W1 and W2 1x1 convolutions.

    Source: RepLKNet, arXiv 2203.06717, section 4.1, its ConvFFN without the shortcut.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = PreNormedConv(pointwise(width, hidden))
        self.project = NormedConv(pointwise(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y: Tensor = self.project(F.gelu(self.expand(x)))
        return y
