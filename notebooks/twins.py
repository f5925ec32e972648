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
# # Twins in graph attention networks
#
# Two nodes are **twins** when they have the same neighbours. A graph convolution gives twins the
# same output. Graph attention was meant to tell them apart: each node asks its neighbours its own
# question. Often it does not. This notebook shows when, why, how often, and whether training
# helps.
#
# Ten steps, one code cell each. It needs about a minute.

# %% [markdown]
# ## 1. Two nodes, one layer, one output
#
# The graph is the one of the tutorial that an article discusses. Its four nodes are numbered 0 to
# 3 here; the article counts from one, so its nodes 3 and 4 are our 2 and 3. Every node also sends
# to itself (a self-loop). So 2 and 3 both receive from 1, 2 and 3: they are twins.
#
# One head of attention computes, for receiver $i$ and sender $j$,
#
# $$z_i = x_i W,\quad c_i = a_{recv} \cdot z_i,\quad n_j = a_{send} \cdot z_j,\quad
# \alpha_{ij} = \mathrm{softmax}_j\ \mathrm{LeakyReLU}(c_i + n_j),\quad
# out_i = \sum_j \alpha_{ij} z_j .$$
#
# The article takes $W = I$, $a_{recv} = (-0.2, 0.3)$ and $a_{send} = (0.1, -0.1)$.

# %%
import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap

import gat_jax
from gat_jax import Cell, LayerConfig, TrainConfig, graphs, symmetry
from gat_jax.layers import GATParams
from gat_jax.runtime.stats import binomial_interval
from gat_jax.studies import tutorial_training
from gat_jax.studies.tutorial_init import PRINTED_OUTPUTS, article_params, two_head_params
from gat_jax.training import survival

# The programs here are small: to compile them takes longer than to run them.
jax.config.update("jax_disable_most_optimizations", True)
BLUE, ORANGE, GREEN, GREY = "#3b6fb6", "#e08a1e", "#3a9a5b", "#8a8a8a"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})


def rounded(x, decimals):
    """Return numbers that print short."""
    return np.round(np.asarray(x, np.float64), decimals) + 0.0


graph = gat_jax.load_graph("tutorial")
pairs = gat_jax.twin_pairs(gat_jax.twin_classes(graph))
article = article_params()
out, info = jax.jit(gat_jax.gat)(article, graph)

print("twins:", [(int(i), int(k)) for i, k in zip(pairs.first, pairs.second, strict=True)])
for node in range(4):
    print(f"node {node}: features {graph.nodes[node]}, output {rounded(out[node], 4)}")
print("outputs of the twins equal to the last bit:", bool(jnp.all(out[2] == out[3])))

drawing = nx.Graph(
    [(int(s), int(r)) for s, r in zip(graph.senders, graph.receivers, strict=True) if s != r]
)
fig, ax = plt.subplots(figsize=(4.6, 2.4))
nx.draw_networkx(
    drawing,
    pos={0: (0, 0), 1: (1, 0), 2: (2, 0.6), 3: (2, -0.6)},
    nodelist=[0, 1, 2, 3],
    node_color=[GREY, GREY, ORANGE, ORANGE],
    font_color="white",
    node_size=700,
    ax=ax,
)
ax.text(2.2, 0, "twins", color=ORANGE, va="center", fontsize=12)
ax.set(xlim=(-0.3, 2.7), ylim=(-1, 1), title="The tutorial graph (self-loops not drawn)")
ax.axis("off")
plt.show()

# %% [markdown]
# ## 2. Why? Two causes, not one
#
# The article says: all scores are equal, so the attention is uniform. That is true here. The
# normalised entropy says so: 1 means uniform, 0 means that all attention is on one sender.
#
# But there is a second cause. The LeakyReLU is made of two straight pieces. When **all** scores of
# both rows are positive, only one piece is in use, and on it the receiver's own score $c_i$ is
# added to every entry of the row alike. Softmax does not see what is added to every entry. The
# question that node $i$ asks cancels out. The same holds when all scores are negative.
#
# With at least two different senders, and a LeakyReLU that is not just the identity, the rows of
# twins are equal **exactly** when one of four things holds:
#
# | cause | what it means |
# |---|---|
# | `positive` | every score of both rows is at least 0 |
# | `negative` | every score of both rows is at most 0 |
# | `uniform` | the senders' scores $n_j$ are all the same |
# | `equal_query` | the receivers' scores $c_i$ are the same |
#
# `pair_causes` finds all that hold. Below we move $a_{send}$ away from the article's. Then the
# attention is no longer uniform. The positive cause can still hold, and while it does, the twins
# stay equal.


# %%
@jax.jit
def look(params):
    """Return outputs, what the layer saw, and the causes of the twins."""
    out, info = gat_jax.gat(params, graph)
    return out, info, gat_jax.pair_causes(info, graph, pairs)


def describe(params):
    """Print the twins' rows, head by head."""
    out, info, causes = look(params)
    entropy = gat_jax.normalised_entropy(info.attention, graph.receivers, num_nodes=4)
    lines = []
    for head in range(causes.shape[1]):
        for node in (2, 3):
            row = graph.receivers == node
            lines.append(
                f"  head {head}, node {node}: scores {rounded(info.logits[row, head], 2)}"
                f"  attention {rounded(info.attention[row, head], 3)}"
                f"  entropy {entropy[node, head]:.4f}"
            )
        names = [n for n, holds in zip(gat_jax.CAUSES, causes[0, head], strict=True) if holds]
        lines.append(f"  head {head}, causes: {', '.join(names)}")
    lines.append(f"  largest difference of the outputs: {jnp.abs(out[2] - out[3]).max():.4f}\n")
    print("\n".join(lines))


for a_send in ([0.1, -0.1], [0.1, -0.05], [-0.5, 0.2]):
    print(f"a_send = {a_send}")
    describe(article._replace(a_send=jnp.array([a_send])))

# %% [markdown]
# ## 3. Two heads: different outputs
#
# The tutorial itself prints a layer of **two** heads, one channel each, made of the same four
# numbers. There the twins differ. Look at the causes: in each head the scores have mixed signs, so
# the rows are `separated`.
#
# Two heads did not help because they are two. They helped because their scores have mixed signs.

# %%
two_heads = two_head_params()
describe(two_heads)
two_head_out, two_head_info, _ = look(two_heads)
error = np.abs(two_head_out - np.array(PRINTED_OUTPUTS)).max()
print(f"largest difference from what the tutorial prints (four decimals): {error:.1e}")

rows = {
    "The article's one head": info.attention[:, 0],
    "Two heads: head 0": two_head_info.attention[:, 0],
    "Two heads: head 1": two_head_info.attention[:, 1],
}
fig, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True, layout="constrained")
for ax, (title, attention) in zip(axes, rows.items(), strict=True):
    for node, offset, colour in ((2, -0.2, BLUE), (3, 0.2, ORANGE)):
        heights = attention[graph.receivers == node]
        ax.bar(np.arange(1, 4) + offset, heights, 0.38, color=colour, label=f"node {node}")
    ax.set(title=title, xlabel="sender", xticks=[1, 2, 3], ylim=(0, 1))
axes[0].set_ylabel("attention")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 4. The map of regimes
#
# Is equality a rare accident? Draw a map. Each point is one choice of $a_{recv}$ and $a_{send}$;
# its colour is the primary cause of the twins in that layer (the first that holds, in the order of
# `CAUSES`). Each point is computed by the layer and the criterion; `vmap` does the whole grid.
#
# *Left:* $a_{recv} = (s, 0)$ and $a_{send} = (t, 0)$. The receivers' scores are $c_2 = 4s$ and
# $c_3 = 6s$. The senders' scores are $n_1 = 2t$, $n_2 = 4t$ and $n_3 = 6t$.
#
# *Right:* a map around the article's layer. $a_{recv}$ is $s$ times the article's, so
# $c_2 = 0.7 s$ and $c_3 = 0.9 s$. To $a_{send}$ we add $(t, 0)$, so the senders' scores spread:
# $n_3 - n_1 = 4t$.
#
# `uniform` and `equal_query` are thin lines: a random point almost surely misses them. `positive`
# and `negative` are **areas**. The article's point lies on a line, and inside an area.


# %%
def primary_cause_at(a_recv, a_send):
    """Return the primary cause of the twins in a layer with W = I."""
    params = GATParams(article.kernel, a_recv[None], a_send[None])
    causes = gat_jax.pair_causes(gat_jax.gat(params, graph)[1], graph, pairs)
    return gat_jax.primary_cause(causes)[0, 0]


over_grid = jax.jit(jax.vmap(jax.vmap(primary_cause_at, (0, None)), (None, 0)))
grid = np.arange(-120, 121, dtype=np.float32) / 120
s, t = 1.5 * grid, 0.5 * grid  # of the map on the right
first = jnp.array([1.0, 0.0])
maps = (
    np.asarray(over_grid(grid[:, None] * first, grid[:, None] * first)),
    np.asarray(over_grid(s[:, None] * article.a_recv, article.a_send + t[:, None] * first)),
)
colours = dict.fromkeys(gat_jax.CAUSES, "white") | {
    "equal_query": "black",
    "positive": "#f6c48a",
    "negative": "#9fc0e8",
    "uniform": "#b02a2a",
    "separated": "#eeeeee",
}
colour_map = ListedColormap([colours[name] for name in gat_jax.CAUSES])
norm = BoundaryNorm(np.arange(len(gat_jax.CAUSES) + 1) - 0.5, colour_map.N)
fig, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
axes[0].set(
    title="The first feature alone",
    xlabel="receiver's score $c_2$   ($c_3 = 1.5\\,c_2$)",
    ylabel="sender's score $n_1$   ($n_2 = 2\\,n_1$, $n_3 = 3\\,n_1$)",
)
axes[1].set(
    title="Around the article's layer",
    xlabel="receiver's score $c_2$   ($c_3 = \\frac{9}{7}\\,c_2$)",
    ylabel="spread of the senders' scores, $n_3 - n_1$",
)
planes = ((4 * grid, 2 * grid), (0.7 * s, 4 * t))
label_places = (
    ((2, 1), (-2, -1), (-2.3, 1.35), (2.3, -1.35)),
    ((0.5, 1.2), (-0.5, -1.2), (-0.75, 1.1), (0.79, -1.0)),
)
for ax, codes, (c, n), places in zip(axes, maps, planes, label_places, strict=True):
    ax.pcolormesh(c, n, codes, cmap=colour_map, norm=norm, rasterized=True)
    ax.axhline(0, color=colours["uniform"], linestyle=":")
    ax.text(0.97 * c[0], 0, "uniform on this line", color=colours["uniform"], va="bottom")
    ax.text(
        0.03 * c[0], 0.97 * n[-1], "equal_query on this line", rotation=90, ha="right", va="top"
    )
    for x, y in places:
        name = gat_jax.CAUSES[codes[np.abs(n - y).argmin(), np.abs(c - x).argmin()]]
        text = f"{name}\ntwins {'differ' if name == 'separated' else 'equal'}"
        ax.text(x, y, text, ha="center", va="center", fontsize=11)
axes[1].plot(0.7, 0, "o", color="black", markersize=7)
axes[1].annotate("the article", (0.7, 0), (0.6, 0.35), arrowprops={"arrowstyle": "-"})
plt.show()
for title, codes in zip(("first feature alone", "around the article"), maps, strict=True):
    shares = np.bincount(np.ravel(codes), minlength=len(gat_jax.CAUSES)) / codes.size
    found = {n: f"{x:.2%}" for n, x in zip(gat_jax.CAUSES, shares, strict=True) if x > 0}
    print(f"share of the grid, {title}: {found}")

# %% [markdown]
# ## 5. How often at random?
#
# A map is one slice. Now draw all parameters at random, as the tutorial's own layer does (its
# initialiser has a projection bias), many thousand times. We count how often the twins are equal
# **in every head**.
#
# If each head collides with probability $p$ and the heads are drawn independently, all $H$ heads
# collide with probability $p^H$. More heads do help. But the power falls slowly, because $p$ is
# large. (With this initialiser $p$ itself depends a little on $H$: weights shrink when there are
# more heads, the bias does not. The column "per head" is $p$ at that $H$.)
#
# The article says that about half of the outputs agree to four decimals, and that random
# parameters almost never fall into the special case. Compare with the table. (`rounding` in the
# list of causes: unequal by their signs, but too close for floating point to tell.)


# %%
def sample_all(cells, *, num_inits=30_000):
    """Sample every cell; two at a time, since most of the time goes into compiling."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(gat_jax.sample, cell, graph, pairs, num_inits=num_inits, seed=0)
            for cell in cells
        ]
        return [job.result() for job in jobs]


HEADS = np.array([1, 2, 4, 8])
counts = sample_all(
    [Cell("tutorial", LayerConfig(heads=int(h), initializer="tutorial")) for h in HEADS]
)
num_inits = np.array([x.num_inits for x in counts])
collisions = np.array([x.collisions for x in counts])
low, high = binomial_interval(collisions, num_inits)
per_head = np.array([x.head_collisions.mean() for x in counts]) / num_inits
equal = collisions / num_inits
print("heads  equal  95% interval    per head  (per head)^H  equal to 4 decimals")
for h, x, p, lo, hi, e in zip(HEADS, counts, per_head, low, high, equal, strict=True):
    print(
        f"{h:5d}  {e:.3f}  {lo:.3f} to {hi:.3f}  {p:8.3f}  {p**h:12.3f}"
        f"  {x.matching_outputs / x.num_inits:19.3f}"
    )
one = counts[0]
print(f"\n{one.collisions} collisions of one head. Primary causes of all {one.num_inits} draws:")
for name, count in zip(gat_jax.CAUSES, one.head_causes[0], strict=True):
    if count:
        print(f"  {name:12} {count:6d}")
print(f"with uniform attention in both rows: {one.uniform_attention}")

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
smooth = np.linspace(1, 8, 100)
ax.plot(smooth, equal[0] ** smooth, color=GREY, label="$p^H$, with $p$ of one head")
ax.errorbar(HEADS, equal, (equal - low, high - equal), fmt="o", color=BLUE, label="counted")
for h, e in zip(HEADS, equal, strict=True):
    ax.annotate(f"{e:.0%}", (h, e), (6, 6), textcoords="offset points", color=BLUE)
ax.set(
    title="Twins equal at initialisation",
    xlabel="heads $H$",
    ylabel="share of initialisations",
    xticks=HEADS,
    ylim=(0, 1),
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 6. The probability, exactly
#
# Take $W = I$ and a Gaussian $a$. Then all scores of the twins are jointly Gaussian, and
#
# $$p = 2\,P\bigl(\min(c_i, c_k) + \min_j n_j > 0\bigr).$$
#
# The factor 2 counts the negative case, which mirrors the positive one. This is an integral that
# the package computes without any random numbers. It must agree with counting.
#
# Scaling $a$ by a positive number does not change any sign. So the gain of an initialiser does
# not matter. What matters is where the features lie. The curve subtracts the same number from all
# features. The tutorial's features are all at least 0, so the scores tend to share a sign. The
# curve is low where the senders' features lie on both sides of 0.

# %%
exact = symmetry.gaussian_collision_probability(graph.nodes[2:], graph.nodes[1:])
gaussian = LayerConfig(initializer="gaussian", use_bias=False)
(count,) = sample_all([Cell("tutorial", gaussian)])
low, high = (float(x) for x in binomial_interval(count.collisions, count.num_inits))
counted = count.collisions / count.num_inits
print(f"exact:   {exact.value:.6f} (error of the quadrature about {exact.error:.0e})")
print(f"counted: {counted:.4f}, 95% interval {low:.4f} to {high:.4f}, {count.num_inits} draws")
print("exact value inside the interval:", low <= exact.value <= high)

offsets = np.linspace(0, 7, 29)
curve = [
    symmetry.gaussian_collision_probability(x[2:], x[1:], num_nodes=2**10).value
    for x in (graph.nodes - offset for offset in offsets)
]
lowest = int(np.argmin(curve))
print(f"lowest on the curve: {curve[lowest]:.3f}, after subtracting {offsets[lowest]:.2f}")
x = graphs.standardise(graph.nodes)
standardised = symmetry.gaussian_collision_probability(x[2:], x[1:]).value
print(f"exact for standardised features: {standardised:.3f}")

fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.plot(offsets, curve, color=BLUE, label="exact")
ax.errorbar(
    [0], [counted], [[counted - low], [high - counted]], fmt="o", color=ORANGE, label="counted"
)
middle = graph.nodes[1:].mean()
ax.axvline(middle, color=GREY, linestyle=":")
ax.text(middle, 0.93, " mean over the senders", color=GREY)
ax.set(
    title="One head, Gaussian $a$",
    xlabel="number subtracted from every feature",
    ylabel="probability that twins are equal",
    ylim=(0, 1),
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 7. What helps?
#
# **GATv2** puts the nonlinearity in each channel of the score:
# $\sum_k a_k\,\mathrm{LeakyReLU}(r_{ik} + l_{jk})$. For generic $a$, twins are equal only when
# **every** channel is: when in each channel all arguments have one sign, or the senders or the
# receivers do not differ. So the share falls with the number of channels. In GAT more channels do
# not help, since one head has one score.
#
# **GCN** has no question to ask. Its weights depend on the neighbours alone. Twins are always
# equal; no need to count, but we do.
#
# **Standardised features** lie around 0, so signs mix more often.

# %%
cells = {
    "GCN": LayerConfig(layer="gcn", initializer="tutorial"),
    **{
        f"GATv2, {c} channel{'s'[: c > 1]}": LayerConfig(
            layer="gatv2", channels=c, initializer="tutorial"
        )
        for c in (1, 2, 4, 8)
    },
}
measured = {"GAT, 2 channels": counts[0]}
measured |= dict(
    zip(
        [*cells, "GAT, 2 channels, standardised"],
        sample_all(
            [
                *(Cell("tutorial", layer) for layer in cells.values()),
                Cell("tutorial", LayerConfig(initializer="tutorial"), "standardised"),
            ],
            num_inits=16_000,
        ),
        strict=True,
    )
)
order = ["GCN", "GAT, 2 channels", "GAT, 2 channels, standardised", *list(cells)[1:]]
shares = [measured[name].collisions / measured[name].num_inits for name in order]
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
bar_colours = [GREY, BLUE, BLUE, *[GREEN] * 4]
bars = ax.barh(order, shares, color=bar_colours)
ax.bar_label(bars, [f"{x:.1%}" for x in shares], padding=4)
ax.invert_yaxis()
ax.set(
    title="One head: twins equal at initialisation",
    xlabel="share of initialisations",
    xlim=(0, 1.15),
    xticks=np.arange(0, 1.1, 0.2),
)
plt.show()
for name in order:
    x = measured[name]
    low, high = binomial_interval(x.collisions, x.num_inits)
    print(f"{name:30} {x.collisions / x.num_inits:.3f}  95% interval {low:.3f} to {high:.3f}")

# %% [markdown]
# ## 8. Training from the article's layer
#
# The article says that gradient descent leaves the special case quickly. There are two special
# cases, so ask twice. The twins get different labels: (0, 0, 0, 1).
#
# *Uniform attention* is no trap: $a_{send}$ gets a gradient there, and moves.
#
# *A regime* is something else. Inside it the receiver's score cancels exactly, so these rows give
# $a_{recv}$ a gradient of exactly 0. The difference between the twins is 0 not only here but all
# around. Nothing pushes towards telling them apart. The parameters leave only by drifting.
#
# While the twins are equal, the loss cannot fall below a floor. The network gives both the same
# probabilities, though their labels differ. One half each is the best it can do, and costs $\ln 2$
# for two of the four nodes: the floor is $(2 \ln 2)/4$.
#
# **So entropy can escape while the twins stay equal.** Who watches the entropy alone is misled.

# %%
optimizers = ("sgd", "adam")
starts = {
    name: tutorial_training.train_article_start(TrainConfig(name, 1000)) for name in optimizers
}
floor = tutorial_training.tutorial_loss_floor()
print(f"loss floor while the twins are equal: {floor:.5f}")
fig, axes = plt.subplots(2, 2, figsize=(9, 4.8), sharex=True, sharey="row", layout="constrained")
for column, (name, start) in zip(axes.T, starts.items(), strict=True):
    steps = np.arange(len(start.loss))
    escaped = np.flatnonzero(start.twin_entropy < tutorial_training.ESCAPED_ENTROPY)
    separated = np.flatnonzero(~start.is_collided)
    print(f"{name}:")
    print(f"  entropy of the twins' rows first below {tutorial_training.ESCAPED_ENTROPY}: ", end="")
    print(f"step {escaped[0]}; twins still equal there: {start.is_collided[escaped[0]]}")
    print(f"  twins first different: {f'step {separated[0]}' if len(separated) else 'never'}")
    print(f"  share of steps with equal twins: {start.is_collided.mean():.1%}")
    print(f"  lowest loss with equal twins: {start.loss[start.is_collided].min():.5f}")
    for ax in column:
        ax.fill_between(
            steps,
            0,
            1,
            where=start.is_collided,
            transform=ax.get_xaxis_transform(),
            color="#f6c48a",
            alpha=0.6,
            linewidth=0,
            label="twins equal",
        )
    column[0].plot(steps, start.twin_entropy, color=BLUE)
    column[0].set(title={"sgd": "SGD", "adam": "Adam"}[name], ylim=(0, 1.05))
    column[1].plot(steps, start.loss, color=BLUE)
    column[1].axhline(floor, color=GREY, linestyle="--", label="floor")
    column[1].set(xlabel="step", ylim=(0, None))
axes[0, 0].set_ylabel("entropy of\nthe twins' rows")
axes[1, 0].set_ylabel("loss")
axes[1, 1].legend(loc="upper right")
plt.show()

# %% [markdown]
# ## 9. Training from many starts
#
# One start is one story. Here are a few hundred random ones, trained with Adam. We keep those
# whose twins are equal at the start, and ask two questions at each step:
#
# - which share has **never** been seen separated (the survival curve, a first exit only);
# - which share is equal **now** (the occupancy).
#
# The curves differ, because leaving is not for good: runs separate and become equal again. The gap
# between the two curves is the share of runs that have left and come back.

# %%
train = functools.partial(
    tutorial_training.train_runs, "adam", num_runs=300, config=TrainConfig("adam", 400), seed=0
)
many = [train(heads) for heads in (1, 4)]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for ax, heads, runs in zip(axes, (1, 4), many, strict=True):
    steps = np.arange(runs.is_collided.shape[1])
    started = runs.is_collided[runs.is_collided[:, 0]]
    now = survival.occupancy(started)
    never = survival.kaplan_meier(survival.first_exit(started, steps))
    ax.fill_between(steps, now.low, now.high, color=BLUE, alpha=0.2, linewidth=0)
    ax.plot(steps, now.share, color=BLUE, label="equal now (occupancy, 95% interval)")
    ax.step(
        [0, *never.step, steps[-1]],
        [1, *never.share, never.share[-1]],
        where="post",
        color=ORANGE,
        label="never separated so far (survival)",
    )
    ax.set(title=f"{heads} head{'s'[: heads > 1]}: {len(started)} runs", xlabel="step", ylim=(0, 1))
    back = survival.reentry(runs.is_collided)
    num_runs = len(runs.is_collided)
    print(f"{heads} head{'s'[: heads > 1]}: {len(started)} of {num_runs} runs start equal")
    print(f"  seen separated: {back.num_exited}; of these equal again later: {back.num_reentered}")
    print(f"  changes per run: {back.mean_transitions:.1f}")
    print(f"  equal at the last step: {now.share[-1]:.1%}; never separated: {never.share[-1]:.1%}")
axes[0].set_ylabel("share of the runs that start equal")
axes[0].legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# ## 10. Your own graph
#
# Three questions for any graph:
#
# 1. **Who are the twins?** `gat_jax.twin_classes`. Self-loops change the answer: without them twins
#    share all neighbours and are not joined, with them they must be joined. A class with a single
#    sender (or none) is *trivial*: no attention can tell its members apart.
# 2. **Who is equal, with these parameters?** `gat_jax.equal_nodes` gives every node the smallest
#    id of a node with an equal output.
# 3. **What does it cost?** `gat_jax.loss_floor`: the lowest loss while these nodes stay equal. It
#    is 0 if equal nodes have equal labels.
#
# The karate club stands in for your graph. Replace the first two lines by yours: any networkx
# graph, and one label (0, 1, ...) per node.
#
# The last lines compare features. One-hot ids tell all nodes apart, so twins ask different
# questions. *Structural* features (degree and the like) are computed from the neighbourhood, so
# twins have the same ones: they are equal for all parameters. And senders with equal features
# count as one, so even nodes that are not twins can become equal.

# %%
club = nx.karate_club_graph()
labels = graphs.load_task("karate_club").labels
without_loops = gat_jax.from_networkx(club)  # one-hot node ids, unless you give nodes=...
position = nx.spring_layout(club, seed=2)
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for ax, title, own in zip(
    axes,
    ("without self-loops", "with self-loops"),
    (without_loops, gat_jax.add_self_loops(without_loops)),
    strict=True,
):
    classes = gat_jax.twin_classes(own)
    members = [np.flatnonzero(classes.twin == i) for i in np.unique(classes.twin)]
    members = [m for m in members if len(m) > 1]
    floor = gat_jax.loss_floor(labels, classes.smallest)
    print(f"{title}: twin classes {[m.tolist() for m in members]}")
    print(f"  {gat_jax.count_twins(classes)}")
    print(f"  loss floor if all twins stay equal: {floor:.4f}")
    nx.draw_networkx_edges(club, position, edge_color="#cccccc", ax=ax)
    nx.draw_networkx_nodes(club, position, node_color="#dddddd", node_size=200, ax=ax)
    for number, m in enumerate(members):
        nx.draw_networkx_nodes(club, position, m, node_color=f"C{number}", node_size=200, ax=ax)
    nx.draw_networkx_labels(club, position, font_size=7, ax=ax)
    ax.set(title=f"Karate club {title}: {len(members)} classes of twins")
    ax.axis("off")
plt.show()

structural = graphs.structural_features(without_loops)
for title, heads, own in (
    ("one-hot ids", 1, without_loops),
    ("one-hot ids", 8, without_loops),
    ("structural features", 8, without_loops._replace(nodes=structural)),
):
    config = LayerConfig(heads=heads, channels=8, initializer="tutorial")
    params = gat_jax.init_layer(jax.random.key(0), config, own.nodes.shape[1])
    groups = gat_jax.equal_nodes(params, own)
    num_equal = int(np.sum(np.bincount(groups)[groups] > 1))
    print(
        f"one draw, {title}, heads: {heads}. Nodes that share their output with another: "
        f"{num_equal}; loss floor {gat_jax.loss_floor(labels, groups):.4f}"
    )

# %% [markdown]
# ## What to remember
#
# - Twins are equal where the nonlinearity is out of use: all scores on one side of 0.
# - These are whole regions of parameters, so a random start is often inside.
# - More heads, GATv2 and standardised features make it rarer.
# - Uniform attention is left quickly in training. A regime has no gradient that leads out of it.
# - Watch the twins, not the entropy alone.
