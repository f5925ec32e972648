"""What users see of a training: a dataset with names for everything, and a summary as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from gat_jax.runtime.blocks import Blocks, DamagedBlockError
from gat_jax.runtime.stats import half_width
from gat_jax.symmetry import CAUSES
from gat_jax.training import records
from gat_jax.training.history import GRADIENTS
from gat_jax.training.measures import COORDINATES, MEASURES, Measure
from gat_jax.training.plan import Prepared

# Dimensions of what is recorded, beside those of `measures.MEASURES`.
HISTORY_DIMS: dict[str, tuple[str, ...]] = {
    "step": ("record",),
    "loss": ("record",),
    "accuracy": ("record",),
    "entropy": ("record", "layer"),
    "twin_entropy": ("record", "layer"),
    "twin_gap": ("record", "layer"),
    "collided": ("record", "layer"),
    "cause_share": ("record", "layer", "cause"),
    "grad_norm": ("record", "layer", "gradient"),
    "validation_loss": ("record",),
    "validation_scores": ("record",),
}
# Of the state that is kept, by the name of the measure that it is.
OUTCOME_MEASURES = {"kept_entropy_histogram": "entropy_histogram"}


def summarise(
    prepared: Prepared, blocks: Blocks, origin: Mapping[str, str], *, seconds: float
) -> xr.Dataset:
    """Return what is stored of a training, with dimensions (setting, seed, step, layer, head, ...).

    Args:
      prepared: what was trained.
      blocks: of the store.
      origin: provenance, stored as attributes.
      seconds: wall time of all calls that computed runs and ended by themselves.

    Returns:
      Variables by setting and seed: scores of the state that is kept (`test_accuracy` and the
      like) and its distribution of attention entropy (`kept_entropy_histogram`), and what was
      recorded at every `step`. A run that is not stored, a layer or a head that
      a setting has not, and steps after a run has stopped are NaN. `num_runs` says how many runs of
      a setting there are. Each measure has its unit and description in its attributes.
    """
    spec = prepared.spec
    config = prepared.settings[0].recipe.config
    steps = np.arange(0, config.num_steps + 1, config.record_every)
    found: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    for place, key in enumerate(prepared.keys):
        for run in blocks.present(key):
            if run >= spec.num_seeds:
                continue
            try:
                arrays = records.read_run(blocks, key, run)
            except DamagedBlockError:  # as if it were not there
                continue
            made = arrays["num_steps"]
            for name, array in arrays.items():
                if name in HISTORY_DIMS or name.startswith(records.MEASURE):
                    is_made = steps <= made
                    array = np.where(_beside(is_made, array), array, np.nan)
                found.setdefault(name, {})[place, run] = array
    shape = (len(prepared.keys), spec.num_seeds)
    variables: dict[str, Any] = {}
    for name, arrays in found.items():
        if name == "step":
            continue
        dims, attributes = _dims(name)
        most = [max(sizes) for sizes in zip(*(x.shape for x in arrays.values()), strict=True)]
        joined = np.full((*shape, *most), np.nan)
        for (place, run), array in arrays.items():
            joined[(place, run, *(slice(n) for n in array.shape))] = array
        dims = tuple("step" if dim == "record" else dim for dim in dims)
        short = name.removeprefix(records.MEASURE)
        variables[short] = (("setting", "seed", *dims), joined, attributes)
    num_runs = [
        sum(place == p for p, _ in found.get("test_score", {})) for place in range(shape[0])
    ]
    variables["num_runs"] = ("setting", np.array(num_runs, np.int64))
    coords = {
        "setting": [setting.name for setting in prepared.settings],
        "seed": np.arange(spec.num_seeds),
        "step": steps,
        "cause": list(CAUSES),
        "gradient": list(GRADIENTS),
        **{name: list(values) for name, values in COORDINATES.items()},
    }
    used = {dim for dims, *_ in variables.values() for dim in np.atleast_1d(dims)}
    attributes = {**origin, "data": spec.data, "recipe": spec.recipe, "seconds": seconds}
    return xr.Dataset(
        variables, {name: values for name, values in coords.items() if name in used}, attributes
    )


def _beside(is_made: np.ndarray, array: np.ndarray) -> np.ndarray:
    return is_made.reshape(-1, *[1] * (array.ndim - 1))


def _dims(name: str) -> tuple[tuple[str, ...], dict[str, str]]:
    if name.startswith(records.MEASURE):
        measure = MEASURES[name.removeprefix(records.MEASURE)]
        return ("record", "layer", *measure.dims), _words(measure)
    if name in OUTCOME_MEASURES:
        measure = MEASURES[OUTCOME_MEASURES[name]]
        return ("layer", *measure.dims), _words(measure)
    return HISTORY_DIMS.get(name, ()), {}


def _words(measure: Measure) -> dict[str, str]:
    return {"units": measure.unit, "long_name": measure.description}


# --- in short -------------------------------------------------------------------------------------


def mean_and_interval(values: ArrayLike) -> dict[str, Any]:
    """Return mean, standard deviation and the 95% interval of the mean (Student's t, in [0, 1]).

    Args:
      values: shares of independent runs. Those that are NaN count as such: the mean is then None.

    Returns:
      `mean`, `sd` (None of one value), `interval` and `values`, as JSON has them.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or not np.isfinite(values).all():
        known = [float(x) if np.isfinite(x) else None for x in values]
        return {"mean": None, "sd": None, "interval": [None, None], "values": known}
    mean, number = float(values.mean()), len(values)
    if number == 1:
        return {"mean": mean, "sd": None, "interval": [None, None], "values": values.tolist()}
    deviation, half = float(values.std(ddof=1)), half_width(values)
    interval = [max(mean - half, 0.0), min(mean + half, 1.0)]
    return {"mean": mean, "sd": deviation, "interval": interval, "values": values.tolist()}


def in_short(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the summary that is written as `summary.json`.

    Of several settings, the first entries are those of the one with the best mean score on the
    validation nodes: test nodes choose nothing.
    """
    settings = []
    for place, name in enumerate(dataset["setting"].values):
        num_runs = int(dataset["num_runs"][place])
        if not num_runs:
            continue
        of_setting = dataset.isel(setting=place)
        there = np.isfinite(of_setting["num_steps"].values)
        entry: dict[str, Any] = {"setting": str(name), "num_seeds": num_runs}
        for field in ("test_accuracy", "test_score", "validation_score", "train_score"):
            entry[field] = mean_and_interval(of_setting[field].values[there])
        for field in ("contested_accuracy", "other_accuracy"):
            entry[field] = mean_and_interval(of_setting[field].values[there])
        entry["num_failed"] = int(np.sum(of_setting["status"].values[there] >= 0))
        entry["num_steps"] = of_setting["num_steps"].values[there].astype(int).tolist()
        settings.append(entry)
    scores = [
        -np.inf if (mean := entry["validation_score"]["mean"]) is None else mean
        for entry in settings
    ]
    best = settings[int(np.argmax(scores))] if settings else {}
    attributes = dataset.attrs
    return {
        **best,
        "data": attributes["data"],
        "recipe": attributes["recipe"],
        "seconds": float(attributes["seconds"]),
        "settings": settings,
    }


def write_history(dataset: xr.Dataset, path: Path) -> None:
    """Write what is recorded of every run as CSV: a row for each setting, seed, step, layer, head.

    Quantities without layers or heads are repeated in the rows that they hold for; those with other
    dimensions are left to the store.
    """
    dims = ("setting", "seed", "step", "layer", "head")
    plain = [
        name
        for name, variable in dataset.data_vars.items()
        if "step" in variable.dims and set(variable.dims) <= set(dims)
    ]
    if not plain:
        path.write_text("", encoding="utf-8")
        return
    frame = dataset[plain].to_dataframe(dim_order=[d for d in dims if d in dataset[plain].dims])
    frame.to_csv(path)
