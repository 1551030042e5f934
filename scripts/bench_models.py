"""How fast are the networks beside torchvision's and segmentation_models_pytorch's, and how much memory do they take?

Same architecture, encoder, size and batch; both sides in turn in one run; the ratio is the median of the pairs'.

    python scripts/bench_models.py                                  # all pairs
    python scripts/bench_models.py fcn_resnet50 unet_resnet34 --size 256 --batch 4 --rounds 9

Two columns. "same": float32 and the default memory format on both sides. "as documented": ours in bf16 where the
hardware multiplies it and with the channels last, as `segtrain train` runs; theirs as their README runs them, in
float32. A ratio above 1 is in our favour. Memory is the peak beyond what the process holds before the first step: of
the GPU, or, on a CPU, of processes of their own, one for each side.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.hardware import choose_precision
from segtrain.models import DeepLabV3, DeepLabV3Plus, DilatedFCN, UNet
from segtrain.models.encoders import MobileNetEncoder, ResNetEncoder

CLASSES = 21


def torchvisions(name: str) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)


def smp(architecture: str, encoder: str, **arguments: Any) -> nn.Module:
    import segmentation_models_pytorch

    build = getattr(segmentation_models_pytorch, architecture)
    return build(encoder_name=encoder, encoder_weights=None, classes=CLASSES, **arguments)


def our_fcn() -> nn.Module:
    return DilatedFCN(CLASSES, aux={"stage4": 0.5})


def our_deeplabv3() -> nn.Module:
    encoder = ResNetEncoder("resnet50", output_stride=8)
    rates = (12, 24, 36)
    return DeepLabV3(
        CLASSES,
        encoder=encoder,
        output_stride=8,
        atrous_rates=rates,
        head_conv=True,
        dropout=0.5,
        aux={"stage4": 0.5},
    )


def our_deeplabv3_mobilenet() -> nn.Module:
    encoder = MobileNetEncoder("mobilenet_v3_large", output_stride=16)
    # torchvision's auxiliary head reads a 40-channel feature at stride 8, as wide as our stage3
    return DeepLabV3(
        CLASSES, encoder=encoder, atrous_rates=(12, 24, 36), head_conv=True, dropout=0.5, aux={"stage3": 0.5}
    )


class Pair(NamedTuple):
    """One network on both sides, and what is not the same."""

    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    library: str
    note: str = ""


PAIRS = {
    "fcn_resnet50": Pair(our_fcn, lambda: torchvisions("fcn_resnet50"), "torchvision"),
    "deeplabv3_resnet50": Pair(our_deeplabv3, lambda: torchvisions("deeplabv3_resnet50"), "torchvision"),
    "deeplabv3_mobilenet": Pair(
        our_deeplabv3_mobilenet, lambda: torchvisions("deeplabv3_mobilenet_v3_large"), "torchvision"
    ),
    "unet_resnet34": Pair(
        lambda: UNet(CLASSES, encoder=ResNetEncoder("resnet34"), upsampling="bilinear"),
        lambda: smp("Unet", "resnet34", decoder_interpolation="bilinear"),
        "SMP",
        "their classifier is 3x3, ours 1x1",
    ),
    "deeplabv3plus_resnet50": Pair(
        lambda: DeepLabV3Plus(CLASSES),
        lambda: smp("DeepLabV3Plus", "resnet50"),
        "SMP",
        "two decoder convolutions where theirs has one, and one after its pyramid",
    ),
}
SIDES, MODES, COLUMNS = ("ours", "theirs"), ("train", "infer"), ("same", "as documented")


class Run:
    """One network of one side, ready to make steps."""

    def __init__(self, name: str, side: str, mode: str, column: str, *, size: int, batch: int) -> None:
        torch.manual_seed(0)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = (PAIRS[name].ours if side == "ours" else PAIRS[name].theirs)().to(self.device)
        image = torch.rand(batch, 3, size, size, device=self.device)
        self.mask = torch.randint(0, CLASSES, (batch, size, size), device=self.device)
        self.mixed = False
        if column == "as documented" and side == "ours":
            self.model = self.model.to(memory_format=torch.channels_last)
            image = image.contiguous(memory_format=torch.channels_last)
            self.mixed = choose_precision("auto") == "bf16-mixed"
        self.image = image
        self.train = mode == "train"
        self.model.train(self.train)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def step(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            if self.train:
                loss = self._loss(self.model(self.image))
            else:
                with torch.inference_mode():
                    output = self.model(self.image)
                    (output["out"] if isinstance(output, dict) else output).argmax(dim=1)
        if self.train:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _loss(self, output: Any) -> Tensor:
        logits = {"out": output} if isinstance(output, Tensor) else output
        losses = [(1.0 if k == "out" else 0.5) * F.cross_entropy(v.float(), self.mask) for k, v in logits.items()]
        return torch.stack(losses).sum()


def seconds(run: Run, steps: int) -> float:
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        run.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(name: str, mode: str, column: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Return (ratio, our images/s, their images/s)."""
    ours, theirs = (Run(name, side, mode, column, size=options.size, batch=options.batch) for side in SIDES)
    for run in (ours, theirs):
        seconds(run, options.warm_up)
    pairs = []
    for number in range(options.rounds):
        order = (ours, theirs) if number % 2 == 0 else (theirs, ours)  # neither side always comes first
        times = {id(run): seconds(run, options.steps) for run in order}
        pairs.append((times[id(ours)], times[id(theirs)]))
    ratio = statistics.median(their / our for our, their in pairs)
    speeds = [options.batch / statistics.median(pair[side] for pair in pairs) for side in range(2)]
    return ratio, speeds[0], speeds[1]


def peak(name: str, side: str, mode: str, column: str, options: argparse.Namespace) -> float:
    """Return the MiB that two steps take beyond what the model and the images do."""
    if torch.cuda.is_available():
        run = Run(name, side, mode, column, size=options.size, batch=options.batch)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds(run, 2)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    arguments = [name, "--size", str(options.size), "--batch", str(options.batch), "--child", side, mode, column]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


def child(name: str, side: str, mode: str, column: str, options: argparse.Namespace) -> None:
    """Print the growth of this process's peak resident memory over two steps, in MiB."""
    run = Run(name, side, mode, column, size=options.size, batch=options.batch)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of imports and of building (proc(5))
    before = _memory("VmRSS")
    seconds(run, 2)
    print(_memory("VmHWM") - before)


def _memory(field: str) -> float:
    """Return a field of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PAIR", help=f"of {', '.join(PAIRS)}; all without any")
    parser.add_argument("--size", type=int, default=256, help="pixels along a side")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="pairs of measurements, whose median is printed")
    parser.add_argument("--steps", type=int, default=3, help="steps of one measurement, whose median counts")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--column", choices=COLUMNS, action="append", help="only this column")
    parser.add_argument("--mode", choices=MODES, action="append", help="only training steps or inference")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - PAIRS.keys():
        parser.error(f"no such pair: {', '.join(sorted(unknown))} (there are: {', '.join(PAIRS)})")
    if options.child:
        child(options.names[0], *options.child, options)
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; {options.batch} images of {options.size}x{options.size}; {options.rounds} pairs")
    print(f"{'network':<24}{'beside':<13}{'mode':<7}{'column':<15}{'ratio':>6}{'ours':>9}{'theirs':>9} images/s  MiB")
    for name in options.names or PAIRS:
        for mode in options.mode or MODES:
            for column in options.column or COLUMNS:
                ratio, our, their = compare(name, mode, column, options)
                line = f"{name:<24}{PAIRS[name].library:<13}{mode:<7}{column:<15}{ratio:6.2f}{our:9.2f}{their:9.2f}"
                if not options.no_memory:
                    memory = [peak(name, side, mode, column, options) for side in SIDES]
                    line += f"{'':10}{memory[0]:5.0f} {memory[1]:5.0f}"
                print(line, flush=True)
    for name in options.names or PAIRS:
        if PAIRS[name].note:
            print(f"{name}: {PAIRS[name].note}")


if __name__ == "__main__":
    main()
