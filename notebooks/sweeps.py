# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sweeps: run one, select, plot
#
# A sweep takes every combination of layers, heads, channels, initialisers, features and slopes,
# draws random initialisations of each, and counts how often twins (nodes with the same neighbours)
# come out equal. Its store opens as one labelled dataset. The command
#
#     gat-jax sweep --layer gat gatv2 --heads 1 2 4 8 --num-inits 100000 --out small.zarr
#
# does the same as the first cell.

# %%
import dataclasses
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from gat_jax.sweeps import SweepSpec, run_sweep

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "small.zarr"
spec = SweepSpec(layer=("gat", "gatv2"), heads=(1, 2, 4, 8), num_inits=100_000)
run_sweep(spec, path)

# %% [markdown]
# ## Select
#
# Dimensions have names, so a cell is chosen by its labels. `interval` is the 95% interval.

# %%
dataset = xr.open_zarr(path).squeeze(["graph", "channels", "initializer", "features", "slope"])
cell = dataset.sel(layer="gat", heads=4)
low, high = cell.interval.values
print(f"GAT, 4 heads: {float(cell.collision_probability):.4f} [{low:.4f}, {high:.4f}]")
print(dataset.collision_probability.to_series().unstack("layer").round(4).to_string())

# %% [markdown]
# ## Plot
#
# More heads help GAT, and GATv2 more: there every channel of every head has to be in a regime.

# %%
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for layer, rows in dataset.groupby("layer"):
    rows = rows.squeeze("layer")
    probability = rows.collision_probability
    errors = np.abs(rows.interval.transpose("bound", "heads") - probability)
    ax.errorbar(rows.heads, probability, errors, marker="o", label=layer)
ax.set_xscale("log", base=2)
ax.set_yscale("log")
ax.set_xlabel("heads")
ax.set_ylabel("P(twins equal)")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Why: causes by head
#
# `pair_collisions_by_cause` counts pairs and heads. Almost all equal rows are in a linear regime.

# %%
causes = dataset.sel(heads=1).pair_collisions_by_cause
share = causes / causes.sum("cause")
print(share.to_series().unstack("layer").query("gat + gatv2 > 0").round(5).to_string())

# %% [markdown]
# ## How far apart are the others?
#
# The first bin of the gap histogram counts outputs that are equal to the last bit.

# %%
one = dataset.sel(layer="gat", heads=1)
print(f"equal to the last bit: {int(one.gap_histogram[0]) / int(one.num_inits):.4f}")
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.stairs(one.entropy_histogram, [*one.entropy_low.values, 1.0], fill=True)
left.set_xlabel("normalised entropy of a row")
right.stairs(one.gap_histogram[2:-1], [*one.log10_gap_low[2:-1].values, 4.0], fill=True)
right.set_xlabel("log10 of the largest difference")
plt.show()

# %% [markdown]
# ## Go on
#
# A larger spec computes only what is new; here the blocks of two slopes are added. Slopes share
# their random numbers, and whether twins are equal does not depend on the slope.

# %%
larger = dataclasses.replace(spec, slope=(0.2, 0.5))
probability = run_sweep(larger, path).collision_probability.sel(layer="gat").squeeze()
print(probability.to_series().unstack("slope").round(4).to_string())
folder.cleanup()
