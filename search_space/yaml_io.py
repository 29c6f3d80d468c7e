"""From a YAML file to a DesignSpace or an Architecture, and back.

Every error names the file, the line and the path of what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search_space.architecture import Architecture, Stem
from search_space.axes import Axis, Choice, FloatRange, fixed
from search_space.branches import resolved, span, written_stage
from search_space.errors import SpaceError, nearest, shown
from search_space.families import FAMILIES
from search_space.keys import NETWORK_KEYS, STAGE_KEYS, Unfit, families_of, read_axis, whole
from search_space.plan import shell_of
from search_space.space import Constraint, DesignSpace
from search_space.yaml_text import Document, KeyPath, dotted, parse_yaml, read_yaml

SHIPPED = Path(__file__).parent / "spaces"
"""The spaces and published networks that come with the package."""

CONSTRAINED = ("params", "macs", "activations", "depth", "latency_ms")
MAX_STAGES = 4

_NETWORK_WORDS = tuple(key for key in NETWORK_KEYS if "." not in key)
_TOP = ("name", "input", "stem", "stages", "every_stage", "shared", "constraints", "published")


def shipped_names() -> list[str]:
    """Give the names of the shipped spaces and published networks."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_space(source: str | Path) -> DesignSpace:
    """Read a space from a YAML file, or a shipped one by its name.

    Raises:
        SpaceError: the file cannot be read, or says what no space can say.
    """
    return space_of(_document(source))


def load_architecture(source: str | Path) -> Architecture:
    """Read one network, exactly as written, from a file or by its published name.

    Raises:
        SpaceError: the file is no network: an axis is left open, or the input is missing.
    """
    document = _document(source)
    space = space_of(document)
    for name in space.axes():
        document.error(
            _place(document, name),
            "must be one value in a network, got an axis; "
            "this is a space: use 'replk-search space' or '--space'",
        )
    if space.size is None or space.channels is None:
        document.error(
            (), "input: must be given in a network, got none; add 'input: {channels: 3, size: 224}'"
        )
    architecture = _as_written(space)
    for index, stage in enumerate(architecture.stages):
        if (small := stage.small_kernel or 0) > stage.kernel:
            document.error(
                _place(document, f"stages[{index}].small_kernel"),
                f"must be at most the kernel, got {small} beside a kernel of {stage.kernel}; "
                "take a smaller one or none",
            )
    return architecture


def parse_space(text: str, *, name: str = "space.yaml") -> DesignSpace:
    """Read a space from YAML text; `name` stands for the file in messages."""
    return space_of(parse_yaml(text, name=name))


def dump_architecture(architecture: Architecture, *, name: str) -> str:
    """Write a network as YAML that `load_architecture` and `load_space` read back."""
    return yaml.safe_dump(
        {"name": name, **architecture.to_dict()},
        sort_keys=False,
        default_flow_style=None,
        width=120,
    )


def space_of(document: Document) -> DesignSpace:
    """Read the space that a YAML document describes.

    Raises:
        SpaceError: with file, line, path, what must hold and what was given.
    """
    top = document.value
    _known(document, (), (*_TOP, *_NETWORK_WORDS))
    name = top.get("name", Path(document.name).stem)
    if not isinstance(name, str) or not name.strip():
        document.error(("name",), f"must be text, got {shown(name)}")
    channels, size = _input(document)
    network = _network(document)
    stages, shared = _stages(document)
    space = DesignSpace(
        name=name,
        where=document.name,
        size=size,
        channels=channels,
        network=network,
        shared=shared,
        stages=stages,
        constraints=_constraints(document),
        document=top,
        places=_places(document),
    )
    _check_families(document, space)
    _check_branches(document, space)
    if size is not None:
        space.check_maps()
    return space


def _places(document: Document) -> dict[str, str]:
    """Give `file:line: path` of what the document says of the whole network, by the key."""
    paths = [("stages",), ("input", "size"), *(tuple(key.split(".")) for key in NETWORK_KEYS)]
    return {".".join(path): document.where(path) for path in paths if path in document.lines}


def _document(source: str | Path) -> Document:
    text = str(source)
    path, names = Path(text), shipped_names()
    if path.suffix not in (".yaml", ".yml") and path.name == text and not os.path.lexists(path):
        if text.lower() in names:
            shipped = SHIPPED / f"{text.lower()}.yaml"
            return read_yaml(shipped, name=shipped.name)
        near = nearest(text, names)
        hint = (
            near
            if near.startswith("did you mean")
            else "'replk-search space published' lists the networks, 'default' is a space"
        )
        raise SpaceError(f"{text}: must be a YAML file or a shipped name, got neither; {hint}")
    return read_yaml(path, name=text)


def _known(document: Document, path: KeyPath, known: tuple[str, ...]) -> dict[str, Any]:
    """Give the mapping at a path after checking its keys."""
    node = document.value
    for part in path:
        node = node[part]
    if not isinstance(node, dict):
        document.error(path, f"must be a mapping, got {shown(node)}; keys: {', '.join(known)}")
    for key in node:
        if key not in known:
            document.key_error((*path, key), f"unknown key; {nearest(key, known)}")
    return node


def _axis(document: Document, path: KeyPath, given: Any, *, key: str) -> Axis:
    table = NETWORK_KEYS if key in NETWORK_KEYS else STAGE_KEYS
    try:
        return read_axis(table[key], given)
    except Unfit as error:
        raise SpaceError(
            f"{document.name}:{document.line((*path, *error.at))}: {dotted(path)}: {error}"
        ) from None


def _input(document: Document) -> tuple[int | None, tuple[int, int] | None]:
    if "input" not in document.value:
        return None, None
    node = _known(document, ("input",), ("channels", "size"))

    def read(value: Any, path: KeyPath, high: int) -> int:
        try:
            return whole(1, high)(value)
        except Unfit as error:
            document.error(path, str(error))

    channels = read(node["channels"], ("input", "channels"), 1024) if "channels" in node else None
    if "size" not in node:
        return channels, None
    size, path = node["size"], ("input", "size")
    if isinstance(size, list):
        if len(size) != 2:
            document.error(
                path, f"must be one side or [height, width] in pixels, got {shown(size)}"
            )
        return channels, (read(size[0], (*path, 0), 8192), read(size[1], (*path, 1), 8192))
    side = read(size, path, 8192)
    return channels, (side, side)


def _network(document: Document) -> dict[str, Axis]:
    given = {key: document.value[key] for key in _NETWORK_WORDS if key in document.value}
    paths: dict[str, KeyPath] = {key: (key,) for key in given}
    if "stem" in document.value:
        for key, value in _known(document, ("stem",), ("kind", "stride")).items():
            given[f"stem.{key}"], paths[f"stem.{key}"] = value, ("stem", key)
    axes: dict[str, Axis] = {}
    for key, rule in NETWORK_KEYS.items():
        if key in given:
            axes[key] = _axis(document, paths[key], given[key], key=key)
        else:
            assert rule.default is not None
            axes[key] = fixed(rule.default)
    return axes


def _stages(document: Document) -> tuple[tuple[dict[str, Axis], ...], dict[str, Axis]]:
    rows = document.value.get("stages")
    if rows is None:
        document.error((), "stages: must be given, got none; add a list of one to four stages")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_STAGES:
        given = f"{len(rows)}" if isinstance(rows, list) else shown(rows)
        document.error(("stages",), f"must be a list of one to {MAX_STAGES} stages, got {given}")
    common: dict[str, dict[str, Axis]] = {"every_stage": {}, "shared": {}}
    for part, axes in common.items():
        if part in document.value:
            for key, value in _known(document, (part,), tuple(STAGE_KEYS)).items():
                axes[key] = _axis(document, (part, key), value, key=key)
    every, shared = common["every_stage"], common["shared"]
    for key in every:
        if key in shared:
            document.key_error(
                ("shared", key), "must stand in one place, also in every_stage; remove one"
            )
    stages = [_stage(document, index, every, shared) for index in range(len(rows))]
    for key in shared:
        if all(key in stage for stage in stages):
            document.key_error(
                ("shared", key), "has no effect, every stage has its own; remove one"
            )
    if "ffn_ratio" in every and every["ffn_ratio"].size > 1:
        hidden = [stage.get("ffn_hidden") or shared["ffn_hidden"] for stage in stages]
        if all(map(_names_hidden, hidden)):
            document.key_error(
                ("every_stage", "ffn_ratio"), "has no effect beside ffn_hidden; remove one"
            )
    # A fixed shared value is the same in every stage, so it is no axis of its own.
    used = {key: axis for key, axis in shared.items() if axis.size > 1}
    for stage in stages:
        stage.update({k: a for k, a in shared.items() if k not in stage and k not in used})
    return tuple(stages), used


def _stage(
    document: Document, index: int, every: dict[str, Axis], shared: dict[str, Axis]
) -> dict[str, Axis]:
    path: KeyPath = ("stages", index)
    own = _known(document, path, tuple(STAGE_KEYS))
    axes: dict[str, Axis] = {}
    for name, key in STAGE_KEYS.items():
        if name in own:
            axes[name] = _axis(document, (*path, name), own[name], key=name)
        elif name in every:
            axes[name] = every[name]
        elif name not in shared:
            if key.default is None:
                document.error(
                    path,
                    f"{name} must be given, got none; add it here, in every_stage or in shared",
                )
            axes[name] = fixed(key.default)
    if not _names_hidden(axes.get("ffn_hidden") or shared["ffn_hidden"]):
        return axes
    if "ffn_ratio" in own and axes["ffn_ratio"].size > 1:
        document.error(
            (*path, "ffn_ratio"),
            f"must be one value or be left out beside ffn_hidden, got "
            f"{axes['ffn_ratio'].label()}, which has no effect there; remove one",
        )
    # An axis that other stages have is none here, where it would be drawn and change nothing.
    if (axes.get("ffn_ratio") or shared["ffn_ratio"]).size > 1:
        default = STAGE_KEYS["ffn_ratio"].default
        assert default is not None
        axes["ffn_ratio"] = fixed(default)
    return axes


def _names_hidden(axis: Axis) -> bool:
    """Whether `ffn_hidden` names a width; it takes no axis."""
    return isinstance(axis, Choice) and axis.values != ("none",)


def _constraints(document: Document) -> tuple[Constraint, ...]:
    if "constraints" not in document.value:
        return ()
    found = []
    for name in _known(document, ("constraints",), CONSTRAINED):
        path: KeyPath = ("constraints", name)
        bounds = _known(document, path, ("min", "max"))
        for side, value in bounds.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                document.error((*path, side), f"must be a number of at least 0, got {shown(value)}")
        low, high = bounds.get("min"), bounds.get("max")
        if low is None and high is None:
            document.error(path, "must have min, max or both, got neither")
        if low is not None and high is not None and low > high:
            document.error(path, f"min <= max must hold, got min {low:g}, max {high:g}")
        found.append(Constraint(name=name, low=low, high=high, where=document.where(path)))
    return tuple(found)


def _check_families(document: Document, space: DesignSpace) -> None:
    """Refuse a key that no family of the space has: it would be read and never act."""
    block = space.network["block"]
    assert isinstance(block, Choice)
    places: list[KeyPath] = [
        (key,) for key in ("width_factor", "weights_sparsity") if key in document.value
    ]
    for part in ("every_stage", "shared"):
        places += [(part, key) for key in document.value.get(part, {})]
    for index, row in enumerate(document.value["stages"]):
        places += [("stages", index, key) for key in row]
    for place in places:
        families = families_of(str(place[-1]))
        if not families & {str(value) for value in block.values}:
            document.key_error(
                place,
                f"must stand with block {' or '.join(sorted(families))}, got block "
                f"{block.label()}, where it has no effect; remove it",
            )


def _check_branches(document: Document, space: DesignSpace) -> None:
    """Refuse a stage whose branches fit none of its kernels: nothing could be drawn."""
    if not any("dilations" in FAMILIES[str(b)].stage_keys for b in _values(space.network["block"])):
        return
    for index, stage in enumerate(space.stages):
        axes = {
            key: stage.get(key) or space.shared[key] for key in ("kernel", "dilations", "placement")
        }
        kernels = [int(k) for k in _values(axes["kernel"])]
        small = any("L" not in str(p) for p in _values(axes["placement"]))
        words = _values(axes["dilations"])
        if small or 3 in kernels or any(resolved(w, k) is not None for w in words for k in kernels):
            continue
        widest = min(max(span(branch) for branch in word) for word in words)
        path: KeyPath = ("stages", index, "dilations")
        for part in ("every_stage", "shared"):
            if path not in document.lines:
                path = (part, "dilations")
        document.error(
            path,
            "every branch must lie inside the kernel, (k - 1) r + 1 <= K, got a branch of "
            f"{widest} pixels beside kernel {max(kernels)} of stages[{index}]; "
            "use a smaller branch or a larger kernel",
        )


def _values(axis: Axis) -> tuple[Any, ...]:
    assert not isinstance(axis, FloatRange)
    return axis.values


def _place(document: Document, name: str) -> KeyPath:
    """Find where the YAML says what an axis is: `stages[0].kernel` may stand in every_stage."""
    if not name.startswith("stages["):
        return tuple(name.split("."))
    where, _, key = name.rpartition(".")
    path: KeyPath = ("stages", int(where[len("stages[") : -1]), key)
    places: tuple[KeyPath, ...] = (path, ("every_stage", key), ("shared", key))
    return next((place for place in places if place in document.lines), path)


def _as_written(space: DesignSpace) -> Architecture:
    """Build the one network of a space without cutting what cannot act."""
    (size, channels), shell = space.image(), shell_of(_only(space.network))
    stages = []
    for index, axes in enumerate(space.stages):
        stage = written_stage(_only(axes), block=shell.block)
        assert stage is not None, f"stages[{index}]: branches were checked when the space was read"
        stages.append(stage)
    return Architecture(
        size=size,
        channels=channels,
        block=shell.block,
        stem=Stem(kind=shell.stem, stride=shell.stride),
        transition=shell.transition,
        head=shell.head,
        width_factor=shell.width_factor,
        weights_sparsity=shell.weights_sparsity,
        stages=tuple(stages),
    )


def _only(axes: Mapping[str, Axis]) -> dict[str, Any]:
    return {key: _values(axis)[0] for key, axis in axes.items()}
