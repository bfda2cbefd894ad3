"""Mimi's convolutions (SEANet) on a CPU, as matrix products of numpy's. Owns that arithmetic.

MLX from PyPI brings the reference BLAS to Linux, whose products take twenty times as long as those
of numpy's OpenBLAS: of the 22 ms in which the demo codec encodes a frame 16 were convolutions. Here
they take 2. Sound is [time, channels] throughout, so that a convolution with a kernel of twice its
stride is two products, and any other one product of windows.
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
"""[time, channels]"""


class Layer(Protocol):
    """Streams: what it needs of the past it keeps."""

    def step(self, xs: Array) -> Array:
        """The next piece."""

    def reset_state(self) -> None:
        """Forget the past."""


class Convolution:
    """As moshi_mlx's StreamableConv1d, which it is made from, with zeros before the beginning."""

    def __init__(self, convolution: Any) -> None:
        inner = convolution.conv.conv
        if inner._dilation != 1 or inner._groups != 1 or convolution._pad_mode != "constant":
            raise ValueError("dilation, groups and other pads are not supported")
        channels_out, self._kernel, self._channels = inner.weight.shape
        self._stride = int(inner._stride)
        self._matrix = _array(inner.weight).transpose(1, 2, 0).reshape(-1, channels_out).copy()
        self._bias = None if inner.bias is None else _array(inner.bias)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the past."""
        self._past: Array = np.zeros((self._kernel - self._stride, self._channels), np.float32)

    def step(self, xs: Array) -> Array:
        """[t, channels in] → [t / stride, channels out]; whole strides only."""
        if len(xs) % self._stride:
            raise ValueError(f"{len(xs)} samples are no whole strides of {self._stride}")
        xs = np.concatenate((self._past, xs))
        self._past = xs[len(xs) - (self._kernel - self._stride) :]
        out = self._products(xs)
        return out if self._bias is None else out + self._bias

    def _products(self, xs: Array) -> Array:
        if self._kernel == 2 * self._stride:
            half = self._stride * self._channels
            blocks = xs.reshape(-1, half)
            out: Array = blocks[:-1] @ self._matrix[:half] + blocks[1:] @ self._matrix[half:]
            return out
        count = (len(xs) - self._kernel) // self._stride + 1
        shifts = [xs[i : i + count * self._stride : self._stride] for i in range(self._kernel)]
        return np.concatenate(shifts, axis=1) @ self._matrix


class Upsampling:
    """As moshi_mlx's StreamableConvTranspose1d, whose kernel is twice its stride: each input adds
    to two neighbouring blocks of ``stride`` outputs."""

    def __init__(self, convolution: Any) -> None:
        inner = convolution.convtr.convtr
        channels_out, kernel, channels_in = inner._expanded_weight.shape
        if kernel != 2 * inner._stride:
            raise ValueError(f"a kernel of {kernel} is not twice the stride of {inner._stride}")
        self._block = int(inner._stride) * channels_out
        self._channels_out = channels_out
        weight = _array(inner._expanded_weight)
        self._matrix = weight.transpose(2, 1, 0).reshape(channels_in, -1).copy()
        self._bias = None if inner.bias is None else _array(inner.bias)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the past."""
        self._overlap: Array = np.zeros((1, self._block), np.float32)

    def step(self, xs: Array) -> Array:
        """[t, channels in] → [t * stride, channels out]."""
        halves = (xs @ self._matrix).reshape(-1, 2, self._block)
        now, later = halves[:, 0], halves[:, 1]
        out: Array = now + np.concatenate((self._overlap, later[:-1]))
        self._overlap = later[-1:]
        out = out.reshape(-1, self._channels_out)
        return out if self._bias is None else out + self._bias


class Residual:
    """As moshi_mlx's SeanetResnetBlock."""

    def __init__(self, block: Any) -> None:
        self._block = [Convolution(c) for c in block.block]
        self._shortcut = None if block.shortcut is None else Convolution(block.shortcut)

    def reset_state(self) -> None:
        """Forget the past."""
        for layer in (*self._block, *([self._shortcut] if self._shortcut else [])):
            layer.reset_state()

    def step(self, xs: Array) -> Array:
        """[t, channels] → [t, channels]."""
        beside = xs if self._shortcut is None else self._shortcut.step(xs)
        for convolution in self._block:
            xs = convolution.step(_elu(xs))
        return beside + xs


class Activation:
    """ELU."""

    def step(self, xs: Array) -> Array:
        """Of each sample."""
        return _elu(xs)

    def reset_state(self) -> None:
        """It has no past."""


class Stack:
    """Layers one after the other, in the place of moshi_mlx's SeanetEncoder or SeanetDecoder."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def reset_state(self) -> None:
        """Forget the past."""
        for layer in self._layers:
            layer.reset_state()

    def step(self, xs: mx.array) -> mx.array:
        """MLX's [1, channels, t] → [1, channels, t]."""
        out = np.asarray(xs)[0].T
        for layer in self._layers:
            out = layer.step(out)
        return mx.array(out.T)[None]


def speed_up(mimi: Any) -> None:
    """Replace encoder and decoder; the weights must be final. One that has what is not supported
    here stays as it is."""
    for name, make in (("encoder", _encoder), ("decoder", _decoder)):
        try:
            setattr(mimi, name, Stack(make(getattr(mimi, name))))
        except ValueError:
            continue


def _encoder(encoder: Any) -> list[Layer]:
    layers: list[Layer] = [Convolution(encoder.init_conv1d)]
    for layer in encoder.layers:
        layers += [Residual(block) for block in layer.residuals]
        layers += [Activation(), Convolution(layer.downsample)]
    return [*layers, Activation(), Convolution(encoder.final_conv1d)]


def _decoder(decoder: Any) -> list[Layer]:
    layers: list[Layer] = [Convolution(decoder.init_conv1d)]
    for layer in decoder.layers:
        layers += [Activation(), Upsampling(layer.upsample)]
        layers += [Residual(block) for block in layer.residuals]
    return [*layers, Activation(), Convolution(decoder.final_conv1d)]


def _elu(xs: Array) -> Array:
    """Below 0, exp(x) - 1, which is above x there; above 0 that is 0."""
    out: Array = np.maximum(xs, np.exp(np.minimum(xs, np.float32(0))) - np.float32(1))
    return out


def _array(weights: mx.array) -> Array:
    return np.asarray(weights.astype(mx.float32))
