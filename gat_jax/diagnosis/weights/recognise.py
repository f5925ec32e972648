"""Which layers a file of weights holds: found by their keys, put in order by their widths."""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.weights import dgl, ours, pyg, uva
from gat_jax.diagnosis.weights.files import checked_arrays
from gat_jax.diagnosis.weights.forms import Form, FormOptions
from gat_jax.report.numbers import count
from gat_jax.runtime.text import visible

FORMS: tuple[Form, ...] = (*pyg.FORMS, *dgl.FORMS, *uva.FORMS, *ours.FORMS)
# Any layer has keys that end so; the others, such as "att_src", are of attention alone.
COMMON_ENDS = ("weight", "kernel", "bias")
BIASES = ("bias", "output_bias")
ALONE = "layer"  # the name of a layer whose keys have no prefix
MAX_LISTED = 12  # keys in a message
MAX_ORDERED = 8  # layers of which every order is tried


class ReadModel(NamedTuple):
    """What a file of weights holds."""

    layers: tuple[ImportedLayer, ...]  # from the input on
    unread: tuple[str, ...]  # keys that belong to none of them, such as those of norms


class _Found(NamedTuple):
    """A layer that is found by its keys, read with each way to merge heads that fits them."""

    prefix: str
    keys: frozenset[str]  # less the prefix
    form: Form
    # The first is what the arrays show, or what the system does by default.
    readings: tuple[ImportedLayer, ...]

    @property
    def num_features(self) -> int:
        return self.readings[0].params[0].shape[0]

    @property
    def widths(self) -> set[int]:
        return {reading.config.num_outputs for reading in self.readings}


def read_layers(
    arrays: Mapping[str, np.ndarray],
    *,
    options: FormOptions = FormOptions(),
    layers: Sequence[str] | None = None,
) -> tuple[ImportedLayer, ...]:
    """Return the layers of `read_model`, without the keys that belong to none of them."""
    return read_model(arrays, options=options, layers=layers).layers


def read_model(
    arrays: Mapping[str, np.ndarray],
    *,
    options: FormOptions = FormOptions(),
    layers: Sequence[str] | None = None,
) -> ReadModel:
    """Find the attention layers among weights, and put them in order.

    Layers are ordered as their names count (conv2 before conv10). If the outputs of one are then
    not the inputs of the next, the first order in which they are is taken, if there is one. Heads
    are concatenated or averaged as a bias or the next layer's inputs show; where nothing does, as
    the option says.

    Args:
      arrays: by key, as `files.read_arrays` returns them.
      options: what arrays do not show.
      layers: names of the layers that are to be read, in their order; None: all that are found.
        A layer whose keys have no prefix is called "layer". The old GCNConv of PyG, whose keys are
        those of any linear map, is found by its name alone.

    Raises:
      ValueError: if no layer is found, or none of a name; if keys of a layer are missing or have
        other shapes; if several systems have the same keys; or as `files.checked_arrays`.
    """
    arrays = checked_arrays(arrays)
    by_prefix = _by_prefix(arrays)
    if layers is None:
        found = _ordered(_find(by_prefix, options))
        _check_claimed(found, by_prefix)
    else:
        found = [_named(str(name), by_prefix, options) for name in layers]
    if not found:
        raise ValueError(
            f"weights: expected the keys of {_forms_in_words()}, got {_listed(arrays)}"
        )
    claimed = {f"{x.prefix}{key}" for x in found for key in x.keys}
    unread = tuple(key for key in arrays if key not in claimed)
    return ReadModel(_with_merged_heads(found, options), unread)


def describe(layers: Sequence[ImportedLayer]) -> list[str]:
    """Return one line for each layer: what it is, its shape and how it treats self-loops.

    Args:
      layers: as `read_layers` returns them; names are escaped where they are to be seen.
    """
    lines = []
    for layer in layers:
        config = layer.config
        heads = "1 head" if config.heads == 1 else f"{config.heads} heads"
        facts = [f"{heads} x {count(config.channels, 'channel')}"]
        if config.heads > 1:
            facts.append("concatenated" if config.concat else "averaged")
        if config.layer == "gcn":
            facts = [count(config.channels, "channel"), f"{config.gcn_normalization} normalisation"]
        else:
            facts.append(f"slope {float(layer.settings.slope):g}")
        if config.use_residual:
            facts.append("residual path")
        if config.num_edge_features:
            facts.append(count(config.num_edge_features, "edge feature"))
        loops = "adds self-loops" if layer.replaces_self_loops else "keeps edges as they are"
        lines.append(f"{visible(layer.name)}: {layer.system}, {', '.join([*facts, loops])}")
    return lines


# --- finding layers -------------------------------------------------------------------------------


def _by_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays below each prefix, which is empty or ends with a dot."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        parts = key.split(".")
        for depth in range(len(parts)):
            prefix = "".join(f"{part}." for part in parts[:depth])
            found.setdefault(prefix, {})[key.removeprefix(prefix)] = array
    return found


def _name(prefix: str) -> str:
    return prefix.removesuffix(".") or ALONE


def _is_weak(form: Form) -> bool:
    """Return whether the keys of a form are those of a linear map in a module as well."""
    return all(key.rsplit(".", 1)[-1] in COMMON_ENDS for key in form.required)


def _fits(form: Form, keys: Mapping[str, np.ndarray]) -> bool:
    """Return whether the keys of a form are there, and no others that would belong to the layer.

    These have no dot, or lie in a part of the layer, as "lin.bias" lies in "lin".
    """
    known = form.required | form.optional
    parts = {key.split(".")[0] for key in known}
    others = (key for key in keys if key not in known)
    return form.required <= keys.keys() and not any(
        "." not in key or key.split(".")[0] in parts for key in others
    )


def _find(by_prefix: Mapping[str, Mapping[str, np.ndarray]], options: FormOptions) -> list[_Found]:
    found = []
    for prefix, keys in by_prefix.items():
        fitting = [form for form in FORMS if _fits(form, keys)]
        strong = [form for form in fitting if not _is_weak(form)]
        if strong:
            found.append(_read(prefix, keys, strong, options))
            continue
        for form in fitting:
            # A bias beside the linear map, instead of in it, tells a layer from other modules.
            if form.required != {"weight"} and any(key in keys for key in BIASES):
                try:
                    found.append(_read(prefix, keys, [form], options))
                except ValueError:  # of another shape: a linear map of Flax, say
                    continue
    return found


def _named(
    name: str, by_prefix: Mapping[str, Mapping[str, np.ndarray]], options: FormOptions
) -> _Found:
    prefix = f"{name}."
    if prefix not in by_prefix:
        prefix = "" if name in ("", ALONE) else prefix
    if prefix not in by_prefix:
        names = sorted((_name(x) for x in by_prefix), key=_natural)
        raise ValueError(f"layers: expected names among {_listed(names)}, got {visible(name)!r}")
    keys = by_prefix[prefix]
    fitting = [form for form in FORMS if _fits(form, keys)]
    if not fitting:
        raise ValueError(_misfit(prefix, keys))
    return _read(prefix, keys, fitting, options)


def _read(
    prefix: str, keys: Mapping[str, np.ndarray], forms: Sequence[Form], options: FormOptions
) -> _Found:
    """Read a layer in the form that most of its keys belong to.

    Raises:
      ValueError: if two forms have as many, or for shapes that do not fit the form.
    """
    most = max(len(form.required) for form in forms)
    best = [form for form in forms if len(form.required) == most]
    name = _name(prefix)
    if len(best) > 1:
        systems = ", ".join(form.system for form in best)
        raise ValueError(
            f"{visible(name)}: expected the keys of one system, got {_listed(keys)}, which are "
            f"those of {systems}"
        )
    form = best[0]
    own = {key: keys[key] for key in keys if key in form.required | form.optional}
    try:
        readings = [form.read(name, own, options._replace(concat=None))]
    except ValueError as error:
        raise ValueError(visible(error)) from error
    if readings[0].config.heads > 1:
        other = options._replace(concat=not readings[0].config.concat)
        with contextlib.suppress(ValueError):  # a bias shows that heads are not merged so
            readings.append(form.read(name, own, other))
    return _Found(prefix, frozenset(own), form, tuple(readings))


def _check_claimed(
    found: Sequence[_Found], by_prefix: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Refuse keys of attention that belong to no layer: parts of one that is not complete."""
    claimed = {x.prefix for x in found}
    telling = {
        key for form in FORMS for key in form.required if key.rsplit(".", 1)[-1] not in COMMON_ENDS
    }
    for prefix, keys in by_prefix.items():
        if prefix not in claimed and telling & keys.keys():
            raise ValueError(_misfit(prefix, keys))


def _misfit(prefix: str, keys: Mapping[str, np.ndarray]) -> str:
    """Return what is wrong with the keys of a layer, compared with the form that is nearest."""

    def distance(form: Form) -> tuple[int, int]:
        known = form.required | form.optional
        return -len(known & keys.keys()), len(form.required - keys.keys())

    nearest = min(FORMS, key=distance)
    wanted = _listed(sorted(nearest.required))
    if nearest.optional:
        wanted += f" and possibly {_listed(sorted(nearest.optional))}"
    return (
        f"{visible(_name(prefix))}: expected the keys of a layer, such as those of "
        f"{nearest.system} ({wanted}), got {_listed(sorted(keys))}"
    )


def _forms_in_words() -> str:
    """Return by which keys each system is recognised; versions of one system are one entry."""
    by_system: dict[str, str] = {}
    for form in FORMS:
        if not _is_weak(form):
            system = form.system.split(" (")[0]
            by_system.setdefault(system, f"{system} ({_listed(sorted(form.required))})")
    return ", ".join(by_system.values())


def _listed(names: Iterable[str]) -> str:
    """Return names in a row, the first of them where they are many."""
    names = [visible(name) for name in names]
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


# --- order and heads ------------------------------------------------------------------------------


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return what puts names in the order in which one counts: conv2 before conv10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _ordered(found: list[_Found]) -> list[_Found]:
    """Return layers in the order of their names, or the first order in which widths fit."""
    by_name = sorted(found, key=lambda x: _natural(x.prefix))
    if len(found) > MAX_ORDERED:
        return by_name
    return _chain([], by_name) or by_name


def _chain(done: list[_Found], rest: list[_Found]) -> list[_Found] | None:
    """Go on with those of the rest that take what came out last; None if it cannot be done."""
    if not rest:
        return done
    for k, layer in enumerate(rest):
        if not done or layer.num_features in done[-1].widths:
            chained = _chain([*done, layer], rest[:k] + rest[k + 1 :])
            if chained is not None:
                return chained
    return None


def _with_merged_heads(found: Sequence[_Found], options: FormOptions) -> tuple[ImportedLayer, ...]:
    """Decide for each layer how heads are merged."""
    layers = []
    for k, layer in enumerate(found):
        readings = list(layer.readings)
        if k + 1 < len(found):
            width = found[k + 1].num_features
            readings = [x for x in readings if x.config.num_outputs == width] or readings
        if len(readings) > 1 and options.concat is not None:
            readings = [x for x in readings if x.config.concat == options.concat]
        layers.append(readings[0])
    return tuple(layers)
