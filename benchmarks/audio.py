"""What the loss of spectrograms costs, forward and backward, beside plain PyTorch."""

import keras
import numpy as np
from rich.text import Text

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

WAVEFORMS = (8, 16384)
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
BARS = {"MultiResolutionSTFT": 1.1}


def plain(y, p):
    """As vocoders have it: `torch.stft`, a norm and a mean for each resolution."""
    import torch

    windows = [torch.hann_window(length) for _, _, length in RESOLUTIONS]

    def magnitude(x, window, sizes):
        s = torch.stft(x, *sizes, window, return_complex=True)
        return torch.sqrt(torch.clamp(s.real**2 + s.imag**2, min=1e-7)).transpose(2, 1)

    @torch.enable_grad()
    def run():
        x, total = p.clone().requires_grad_(), 0.0
        for window, sizes in zip(windows, RESOLUTIONS):
            predicted, target = magnitude(x, window, sizes), magnitude(y, window, sizes)
            total = total + torch.norm(target - predicted) / torch.norm(target)
            total = total + torch.nn.functional.l1_loss(torch.log(predicted), torch.log(target))
        (total / 6).backward()

    return run


def table(quick=False, on_turn=None):
    if keras.backend.backend() != "torch":
        return Text("Losses of waveforms, not measured: needs PyTorch.", style="dim")
    rng = np.random.default_rng(0)
    y, p = map(keras.ops.convert_to_tensor, rng.normal(size=(2, *WAVEFORMS)).astype("float32"))
    runs = {
        "torch.stft": plain(y, p),
        "MultiResolutionSTFT": contestant(kr.losses.MultiResolutionSTFT(), y, p),
    }
    timings = race(runs, 5 if quick else 15, warmups=2, on_turn=on_turn)
    title = f"torch: losses of waveforms {WAVEFORMS}, forward and backward"
    return ratio_table(title, timings, "torch.stft", bars=BARS)
