"""The convolutional networks of the papers."""

from __future__ import annotations

from torch import Tensor, nn

from esl_neuro.snn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import NeuronFactory, lif_per_channel, lif_per_position

VGGSNN = "64C3-BN-128C3-BN-AP2-256C3-BN-256C3-BN-AP2-512C3-BN-512C3-BN-AP2-512C3-BN-512C3-BN-AP2-10"
VGGSNN_STRIDED = "64C3-BN-128C3S2-BN-256C3-BN-256C3S2-BN-512C3-BN-512C3S2-BN-512C3-BN-512C3S2-BN-10"
STL_MNIST = "128C5-BN-MP2-128C5-BN-MP2-DP-2048-DP-100-V10"


class ResidualBlock(nn.Module):
    """Conv-BN-LIF-conv-BN, the input added, LIF (TET's ResNet-19).

    Parameters
    ----------
    channels_in, channels : int
        Channels of input and output.
    size : tuple of int
        Height and width of the output.
    stride : int
        Stride of the first convolution.
    neurons : callable
        Factory of the neurons.
    """

    def __init__(
        self, channels_in: int, channels: int, size: tuple[int, int], stride: int, neurons: NeuronFactory
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.lif1 = neurons((channels, *size))
        self.conv2 = Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.lif2 = neurons((channels, *size))
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut.add_module("conv", Conv2d(channels_in, channels, 1, stride, bias=False))
            self.shortcut.add_module("bn", BatchNorm2d(channels))

    def forward(self, signal: Tensor) -> Tensor:
        """Return spikes, shape (steps, batch, channels, height, width)."""
        inner = self.bn2(self.conv2(self.lif1(self.bn1(self.conv1(signal)))))
        spikes: Tensor = self.lif2(inner + self.shortcut(signal))
        return spikes


class ResNet19(nn.Sequential):
    """ResNet-19 of TET for 32x32 images.

    Parameters
    ----------
    classes : int
        Outputs, not spiking.
    neurons : callable
        Factory of the neurons.
    """

    STAGES = ((128, 3, 1), (256, 3, 2), (512, 2, 2))  # channels, blocks, stride of the first block

    def __init__(self, classes: int = 10, neurons: NeuronFactory | None = None) -> None:
        super().__init__()
        make = neurons or lif_per_channel()
        size, channels_in = 32, 64
        self.add_module("conv1", Conv2d(3, channels_in, 3, 1, 1, bias=False))
        self.add_module("bn1", BatchNorm2d(channels_in))
        self.add_module("lif1", make((channels_in, size, size)))
        for stage, (channels, blocks, first_stride) in enumerate(self.STAGES, start=1):
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                size //= stride
                layer = ResidualBlock(channels_in, channels, (size, size), stride, make)
                self.add_module(f"stage{stage}_{block + 1}", layer)
                channels_in = channels
        self.add_module("pool", GlobalAvgPool2d())
        self.add_module("fc1", nn.Linear(channels_in, 256))
        self.add_module("lif2", make((256,)))
        self.add_module("fc2", nn.Linear(256, classes))


def vggsnn(
    classes: int = 10, *, strided: bool = False, neurons: NeuronFactory | None = None, streaming: bool = False
) -> nn.Sequential:
    """VGGSNN of TET for two-channel 48x48 event frames, with average pooling or strided convolutions."""
    notation = (VGGSNN_STRIDED if strided else VGGSNN).removesuffix("-10") + f"-{classes}"
    network = build_layers(notation, (2, 48, 48), neurons or lif_per_channel(), streaming=streaming)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network


def stl_mnist(classes: int = 10, neurons: NeuronFactory | None = None, *, streaming: bool = False) -> nn.Sequential:
    """Build the MNIST network of STL-SNN: 28x28 images, a threshold per position, ten output neurons per class."""
    notation = STL_MNIST.removesuffix("100-V10") + f"{10 * classes}-V10"
    make = neurons or lif_per_position()
    return build_layers(notation, (1, 28, 28), make, bias=False, spiking_output=True, streaming=streaming)
