"""From the name of a network to its effective receptive fields: weights, images, measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from builders import Network, build_network, load_official, merge_network
from evaluators.data import load_data
from evaluators.images import ImageData
from evaluators.receptive_field import (
    BRANCH,
    PIXELS,
    Extent,
    Field,
    extent,
    receptive_fields,
    settle,
)
from runs.describe import find_network
from runs.history import History
from runs.latencies import first_device
from runs.plan import load_plan, resolved_device
from runs.records import RECORD_NAME, read_events
from runs.training_job import weights_path
from search_space.architecture import Architecture
from search_space.errors import DataError, RunError, WorkFailed, nearest
from search_space.yaml_io import load_architecture

SETTLED_ON = 2
"""Images of 512 x 512 that set the batch norms of an untrained network; of smaller ones more."""

GOLDEN = 0.6180339887498949
"""(sqrt 5 - 1) / 2: its multiples lie evenly between whole numbers, however many."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each colour, of pixels from 0 to 255."""
IMAGENET: Statistics = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""What official networks were trained with: 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225."""
HALF: Statistics = ((127.5,) * 3, (127.5,) * 3)
"""What RepLKNet-XL was trained with: 0.5 and 0.5."""

UNTRAINED = (
    "drawn anew, batch norms set by the images, and every block scaled to add "
    f"{BRANCH:g} of the deviation of its input"
)
"""What an untrained network is here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What was asked for, beside the networks."""

    size: tuple[int, int] = (512, 512)
    """Height and width of the images in pixels."""
    images: int = 8
    data: str | None = None
    """As `load_data` reads it; None is the run's own for a RUN/ID, else the shipped set."""
    root: Path | None = None
    """Where torchvision's sets are."""
    weights: tuple[str, ...] = ()
    """NET=FILE for networks with an official checkpoint."""
    untrained: bool = False
    """Leave the weights of a run aside."""
    peak: float = 1e3
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """A network that will be measured."""

    name: str
    architecture: Architecture
    classes: int
    run: Path | None
    """The run that it comes from; None without."""
    weights: Path | None
    """Weights that a run kept; None without."""
    checkpoint: str | None
    """Official checkpoint; None without."""

    @property
    def origin(self) -> str:
        """Where the weights come from."""
        if self.weights is not None:
            return f"{self.weights.parent.name}/{self.weights.name}"
        return self.checkpoint or "drawn anew"

    @property
    def trained(self) -> bool:
        """Whether somebody trained them."""
        return self.weights is not None or self.checkpoint is not None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """The images on which a network is measured."""

    data: ImageData
    normalised: str
    """Whose mean and deviation, in words."""
    statistics: Statistics
    images: Tensor
    """(N, C, H, W), as the network reads them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """The fields of one network."""

    subject: Subject
    sample: Sample
    fields: list[Field]
    extents: list[Extent]
    """Of the positive part of the gradient, stage by stage."""
    absolute: list[Extent]
    """Of |gradient|."""
    seconds: float


def find_subjects(names: Sequence[str], settings: Settings) -> list[Subject]:
    """Find the networks and their weights.

    Raises:
        ReplkError: there is no such network, or no such checkpoint.
    """
    checkpoints = {}
    for given in settings.weights:
        name, _, file = given.rpartition("=")
        if not name or not file:
            raise RunError(
                f"--weights: must be NET=FILE, got {given!r}; "
                "for example convnext_t=convnext_tiny_1k_224_ema.pth"
            )
        if name not in names:
            raise RunError(
                f"--weights: must name one of the networks to measure, got {name!r}; "
                f"{nearest(name, names)}"
            )
        if settings.untrained:
            raise RunError("--weights: must stand without --untrained, got both; leave out one")
        checkpoints[name] = file
    subjects = []
    for name in dict.fromkeys(names):
        architecture, classes = find_network(name)
        architecture = replace(architecture, size=settings.size)
        if not all(min(side) for side in architecture.maps):
            raise RunError(
                f"--size: must leave every stage of {name} a map, got "
                f"{settings.size[0]}x{settings.size[1]}; use a larger one"
            )
        run = _run_of(Path(name))
        aside = run is None or settings.untrained or name in checkpoints
        subjects.append(
            Subject(
                name=name,
                architecture=architecture,
                classes=classes,
                run=run,
                weights=None if aside else _kept_weights(Path(name)),
                checkpoint=checkpoints.get(name),
            )
        )
    return subjects


def samples_for(subjects: Sequence[Subject], settings: Settings) -> list[Sample]:
    """Give every network its images: of --data, of the run that it comes from, or shipped.

    A network with an official checkpoint reads them normalised as its authors' code does, every
    other by the mean and deviation of the data, as our training does.

    Raises:
        ReplkError: data cannot be read, are too few, or their colours do not fit.
    """
    sets: dict[Path | None, ImageData] = {}
    drawn: dict[tuple[str, int, str], Sample] = {}
    samples = []
    for subject in subjects:
        run = subject.run if settings.data is None else None
        if run not in sets:
            sets[run] = _data_of(run, settings)
        data, channels = sets[run], subject.architecture.channels
        normalised, statistics = _statistics(subject, data)
        key = (data.sha256, channels, normalised)
        if key not in drawn:
            images = images_for(data, channels, settings, statistics=statistics)
            drawn[key] = Sample(
                data=data, normalised=normalised, statistics=statistics, images=images
            )
        samples.append(drawn[key])
    return samples


def images_for(
    data: ImageData, channels: int, settings: Settings, *, statistics: Statistics
) -> Tensor:
    """Draw images of the test split as a network reads them: (N, channels, H, W).

    They are resized (bicubic), normalised, and each is moved round by another distance: where all
    images have the same empty border, an untrained network's map would show that border.

    Raises:
        DataError: there are too few, or their colours do not fit.
    """
    height, width = settings.size
    if len(data.test) < settings.images:
        raise DataError(
            f"--images: must be at most the {len(data.test)} test images of {data.name}, "
            f"got {settings.images}; ask for fewer"
        )
    if data.channels not in (1, channels):
        raise DataError(
            f"{data.name}: images must have {'' if channels == 1 else f'{channels} channels or '}"
            f"1 channel for this network, got {data.channels}; name another data set with --data"
        )
    rng = np.random.default_rng(settings.seed)
    chosen = rng.choice(len(data.test), settings.images, replace=False)
    pixels_BCHW = torch.from_numpy(data.test.images[chosen]).permute(0, 3, 1, 2).float()
    smaller = height < data.size[0] or width < data.size[1]
    pixels_BCHW = F.interpolate(pixels_BCHW, (height, width), mode="bicubic", antialias=smaller)
    pixels_BHWC = pixels_BCHW.clamp(0, 255).permute(0, 2, 3, 1)
    mean_C, deviation_C = (torch.tensor(values) for values in statistics)
    # A grey image becomes one of several colours where the statistics have them.
    x_BCHW = ((pixels_BHWC - mean_C) / deviation_C).permute(0, 3, 1, 2)
    # A lattice: few images cover the distances evenly, where few random ones would not.
    lattice = np.arange(settings.images)[:, None] * (1 / settings.images, GOLDEN)
    shifts = ((rng.random(2) + lattice) % 1 * (height, width)).astype(int).tolist()
    moved = [image.roll(tuple(by), (1, 2)) for image, by in zip(x_BCHW, shifts, strict=True)]
    return torch.stack(moved).expand(-1, channels, -1, -1).contiguous()


def measure(
    subject: Subject,
    sample: Sample,
    settings: Settings,
    *,
    report: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Build a network, with its weights or untrained, and measure its fields on the images.

    Raises:
        ReplkError: the weights cannot be used, or the network has no gradient to measure.
    """
    begin_s = time.monotonic()
    device = first_device(resolved_device("auto"))
    images_NCHW = sample.images.to(device)
    network = _network(subject, settings.seed).to(device)
    if not subject.trained:
        height, width = settings.size
        settle(network, images_NCHW[: max(SETTLED_ON, SETTLED_ON * PIXELS // (height * width))])
    merged = merge_network(network.float()).requires_grad_(requires_grad=False)
    assert isinstance(merged, Network)
    try:
        fields = receptive_fields(merged, images_NCHW, report=report)
        extents = [extent(f.map, f.centre, peak=settings.peak) for f in fields]
        absolute = [extent(f.absolute, f.centre, peak=settings.peak) for f in fields]
    except ValueError as error:
        raise WorkFailed(
            f"{subject.name}: must let a gradient through to be measured, got: {error}; "
            "try another --seed or other weights"
        ) from error
    return Measured(
        subject=subject,
        sample=sample,
        fields=fields,
        extents=extents,
        absolute=absolute,
        seconds=time.monotonic() - begin_s,
    )


def check_weights(subject: Subject) -> None:
    """Read the weights of a network once and drop them: a bad file is told before any work.

    Raises:
        ReplkError: they cannot be read, or belong to another network.
    """
    if subject.trained:
        _network(subject, 0)


def _network(subject: Subject, seed: int) -> Network:
    if subject.checkpoint is not None:
        return load_official(subject.checkpoint, subject.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(subject.architecture, subject.classes)
    if subject.weights is not None:
        try:
            network.load_state_dict(load_file(subject.weights))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise RunError(
                f"{subject.weights}: must be the weights of {subject.name} as the run wrote them, "
                f"got: {str(error).splitlines()[0]}; measure it with --untrained"
            ) from error
    return network.eval()


def _run_of(name: Path) -> Path | None:
    """Find the run of a RUN/ID; None for other names."""
    return None if name.exists() or not (name.parent / RECORD_NAME).exists() else name.parent


def _kept_weights(name: Path) -> Path | None:
    """Find what a run kept of a network: its longest training, else its latest trial."""
    trials = History(read_events(name.parent)).trials.values()
    of_it = (trial.number for trial in trials if trial.id == name.name)
    final = name.parent / "weights" / f"final-{name.name}.safetensors"
    paths = [final, *(weights_path(name.parent, number) for number in sorted(of_it, reverse=True))]
    return next((path for path in paths if path.exists()), None)


def _data_of(run: Path | None, settings: Settings) -> ImageData:
    if run is None:
        return load_data(settings.data, root=settings.root)
    try:
        return load_plan(run).data.load()
    except DataError as error:
        raise DataError(f"{error}, or name others with --data") from error


def _statistics(subject: Subject, data: ImageData) -> tuple[str, Statistics]:
    """Say by whose mean and deviation a network's images are normalised, and give them."""
    architecture = subject.architecture
    if subject.checkpoint is None or architecture.channels != len(IMAGENET[0]):
        return f"those of {data.name}", data.mean_std
    if architecture.stages == load_architecture("replknet_xl").stages:
        return "0.5 and 0.5", HALF
    return "those of ImageNet", IMAGENET
