"""The page's arithmetic, JavaScript's doubles in Chromium, against NumPy and the package."""

import json
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from browser import Browser

from gat_jax.diagnosis.pages.playground import write_playground
from gat_jax.graphs import TwinPairs, from_edges, standardise
from gat_jax.layers import GATParams, GATv2Params, LayerConfig, LayerSettings, apply_layer
from gat_jax.symmetry import CAUSES, normalised_entropy, pair_causes

NUM_CASES = 1000
CHANNELS = 2
TRAINED = {
    "gat": ("kernel", "bias", "aRecv", "aSend"),
    "gatv2": ("kernel", "bias", "kernelRecv", "biasRecv", "a"),
}


class Case(NamedTuple):
    """A graph and a setting, as the page's functions take them."""

    features: np.ndarray  # as the layer sees them
    graph: dict[str, Any]
    setting: dict[str, Any]

    def params(self) -> dict[str, np.ndarray]:
        return {name: np.array(self.setting["params"][name]) for name in self.names()}

    def names(self) -> tuple[str, ...]:
        return TRAINED[self.setting["layer"]]


def random_graph(rng: np.random.Generator) -> dict[str, Any]:
    """Nodes 0 and 1 are twins; multiple edges, receivers without any, unlabelled nodes."""
    num_nodes, num_features = int(rng.integers(3, 13)), int(rng.integers(1, 4))
    senders, receivers = rng.integers(0, num_nodes, (2, 3 * num_nodes))
    kept = receivers > 1
    support = rng.integers(0, num_nodes, rng.integers(2, 6))
    support[:2] = 0, 1
    labels = rng.integers(-1, 2, num_nodes)
    labels[0] = 1
    return {
        "features": rng.normal(size=(num_nodes, num_features)).tolist(),
        "senders": [*senders[kept].tolist(), *support.tolist(), *support.tolist()],
        "receivers": [*receivers[kept].tolist(), *[0] * len(support), *[1] * len(support)],
        "labels": labels.tolist(),
        "pairs": [[0, 1]],
    }


TUTORIAL = {
    "features": oracle.FEATURES.tolist(),
    "senders": oracle.SENDERS.tolist(),
    "receivers": oracle.RECEIVERS.tolist(),
    "labels": list(oracle.LABELS),
    "pairs": [list(oracle.TWINS)],
}


def random_case(rng: np.random.Generator) -> Case:
    """Draw a setting; a fifth of them have a slope or a half of `a` that is special."""
    graph = TUTORIAL if rng.random() < 0.6 else random_graph(rng)
    features = np.array(graph["features"])
    layer, heads = str(rng.choice(["gat", "gatv2"])), int(rng.choice([1, 2, 4]))
    scaling = str(rng.choice(["raw", "standardised"]))
    size = rng.choice([0.2, 1.0])
    kernel, half = (features.shape[1], heads, CHANNELS), (heads, CHANNELS)
    shapes = {"kernel": kernel, "bias": half, "aRecv": half, "aSend": half}
    shapes |= {"kernelRecv": kernel, "biasRecv": half, "a": half}
    params = {name: rng.normal(size=shape) * size for name, shape in shapes.items()}
    slope, special = rng.uniform(0, 1), rng.random()
    if special < 0.1:
        slope = float(rng.choice([0.0, 1.0]))
    elif special < 0.2:
        params[str(rng.choice(["aRecv", "aSend", "a"]))][0] = 0.0
    if scaling == "standardised":
        features = (features - features.mean(0)) / features.std(0)
    setting = {"layer": layer, "scaling": scaling, "slope": float(slope)}
    setting["params"] = {name: value.tolist() for name, value in params.items()}
    return Case(features, graph, setting)


def oracle_layer(case: Case, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = np.array(case.graph["senders"]), np.array(case.graph["receivers"])
    slope = case.setting["slope"]
    if case.setting["layer"] == "gat":
        weights = [params[name] for name in ("kernel", "aRecv", "aSend", "bias")]
        return oracle.gat(case.features, *ends, *weights, slope=slope)
    weights = [params[name] for name in ("kernel", "kernelRecv", "a", "bias", "biasRecv")]
    return oracle.gatv2(case.features, *ends, *weights, slope=slope)


def oracle_loss(case: Case, params: dict[str, np.ndarray]) -> Any:
    """Mean cross-entropy of the labelled nodes; complex-safe."""
    out = oracle_layer(case, params)["out"].mean(1)
    labels = np.array(case.graph["labels"])
    nodes = np.flatnonzero(labels >= 0)
    chosen = out[nodes, labels[nodes]]
    return np.mean(np.log(np.exp(out[nodes] - chosen[:, None]).sum(-1)))


def oracle_equal(case: Case, seen: dict[str, np.ndarray]) -> np.ndarray:
    """Whether the pair is equal by signs in each head."""
    (i, k), c, n = case.graph["pairs"][0], seen["c"], seen["n"]
    support = np.array(case.graph["senders"])[np.array(case.graph["receivers"]) == i]
    slope = case.setting["slope"]
    if case.setting["layer"] == "gat":
        return oracle.gat_equal_by_signs(c[i], c[k], n[support].T, slope)[0]
    by_head = []
    for h, weights in enumerate(np.array(case.setting["params"]["a"])):
        is_live = weights != 0
        rows = c[i, h, is_live], c[k, h, is_live], n[support, h][:, is_live]
        by_head.append(bool(oracle.gatv2_equal_by_signs(*rows)) or slope == 1)
    return np.array(by_head)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    rng = np.random.default_rng(20260101)
    return [random_case(rng) for _ in range(NUM_CASES)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    write_playground(path)
    with Browser() as opened:
        opened.open(path)
        yield opened


@pytest.fixture(scope="module")
def numbers(browser, cases) -> list[dict[str, Any]]:
    """What the page's functions return, of all settings in one call."""
    given = json.dumps([[case.graph, case.setting] for case in cases])
    body = "({ ...Attention.evaluate(g, s), gradient: Attention.gradientOf(g, s) })"
    return json.loads(browser.evaluate(f"JSON.stringify({given}.map(([g, s]) => {body}))"))


def assert_close(found: Any, expected: Any, name: str, tolerance: float = 1e-10) -> None:
    found, expected = np.array(found, np.float64), np.asarray(expected)
    assert found.shape == expected.shape, name
    size = max(1.0, np.nanmax(np.abs(expected)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size, err_msg=name)


def test_the_numbers_of_a_thousand_settings_are_those_of_float64(cases, numbers):
    for case, found in zip(cases, numbers, strict=True):
        seen = oracle_layer(case, case.params())
        receivers, num_nodes = np.array(case.graph["receivers"]), len(case.features)
        entropy = oracle.attention_entropy(seen["attention"], receivers, num_nodes)
        share = oracle.normalised_entropy(seen["attention"], receivers, num_nodes)
        d = (..., None) if case.setting["layer"] == "gat" else ...
        assert_close(found["c"], seen["c"][d], "c")
        assert_close(found["n"], seen["n"][d], "n")
        assert_close(found["logits"], seen["logits"], "logits")
        assert_close(found["attention"], seen["attention"], "attention")
        assert_close(found["headOutputs"], seen["out"], "outputs of the heads")
        assert_close(found["outputs"], seen["out"].mean(1), "outputs")
        assert_close(found["entropy"], entropy, "entropy")
        assert_close(found["normalised"], share, "normalised entropy")
        assert_close(found["loss"], oracle_loss(case, case.params()), "loss")
        i, k = case.graph["pairs"][0]
        gap = np.abs(seen["out"].mean(1)[i] - seen["out"].mean(1)[k]).max()
        assert_close(found["gaps"], [gap], "gap")


def test_equality_by_signs_is_that_of_the_oracle(cases, numbers):
    counts: dict[str, int] = {}
    for case, found in zip(cases, numbers, strict=True):
        is_equal = oracle_equal(case, oracle_layer(case, case.params()))
        by_head = found["causes"][0]
        assert [x[0] not in ("rounding", "separated") for x in by_head] == is_equal.tolist()
        if case.setting["layer"] == "gat" and is_equal.all():
            assert found["gaps"] == [0.0]  # to the last bit
        for causes in by_head:
            counts[causes[0]] = counts.get(causes[0], 0) + 1
    expected = {"linear", "equal_query", "positive", "negative", "uniform", "channelwise"}
    assert expected | {"separated"} <= set(counts)


def test_the_gradient_is_that_of_numpy(cases, numbers):
    for case, found in list(zip(cases, numbers, strict=True))[::8]:
        expected = oracle.complex_step_gradient(lambda p, c=case: oracle_loss(c, p), case.params())
        assert set(found["gradient"]) == set(expected)
        for name, values in expected.items():
            assert_close(found["gradient"][name], values, name, 1e-9)


def test_a_receiver_in_one_piece_gets_no_gradient_at_all(browser):
    setting = article_setting()
    # With W = I the two channels of every node differ by 1, and the sender's half gets none either.
    setting["params"]["kernel"] = [[[1.0, 0.2]], [[0.1, 1.0]]]
    script = f"Attention.gradientOf({json.dumps(TUTORIAL)}, {json.dumps(setting)})"
    gradient = browser.evaluate(script)
    assert gradient["aRecv"] == [[0, 0]]
    assert np.abs(gradient["aSend"]).min() > 0.05


def article_setting() -> dict[str, Any]:
    params = {"kernel": np.eye(2)[:, None].tolist(), "bias": [[0.0, 0.0]]}
    params |= {"aRecv": [oracle.A_RECV.tolist()], "aSend": [oracle.A_SEND.tolist()]}
    return {"layer": "gat", "scaling": "raw", "slope": 0.2, "params": params}


def test_gradient_descent_from_the_articles_start_is_the_oracles(browser):
    """The entropy leaves its maximum, and the twins stay equal."""
    script = """(() => { const graph = %s; const setting = %s; const records = [];
      for (let k = 0; k <= 500; k += 1) {
        const seen = Attention.evaluate(graph, setting);
        const [first, second] = [seen.normalised[2][0], seen.normalised[3][0]];
        records.push([seen.loss, (first + second) / 2, seen.gaps[0]]);
        setting.params = Attention.step(setting.params, Attention.gradientOf(graph, setting), 0.01);
      }
      return records; })()"""
    given = json.dumps(TUTORIAL), json.dumps(article_setting())
    loss, entropy, gap = np.array(browser.evaluate(script % given)).T
    start = {"kernel": np.eye(2)[None, :, None], "bias": np.zeros((1, 1, 2))}
    start |= {"a_recv": oracle.A_RECV[None, None], "a_send": oracle.A_SEND[None, None]}
    expected = oracle.train(start, optimizer="sgd", learning_rate=0.01, num_steps=500)
    assert_close(loss, expected["loss"][0], "loss", 1e-9)
    assert_close(entropy, expected["entropy"][0], "entropy", 1e-9)
    assert entropy[-1] < 0.85
    assert not gap.any()


@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_the_numbers_are_those_of_the_package(layer, cases, numbers, x64):
    chosen = [k for k, case in enumerate(cases) if case.setting["layer"] == layer]
    is_tutorial = [k for k in chosen if cases[k].graph is TUTORIAL]
    has_two_heads = [k for k in is_tutorial if len(cases[k].setting["params"]["a"]) == 2]
    for k in has_two_heads[:4]:
        case, found = cases[k], numbers[k]
        nodes = np.array(case.graph["features"])
        if case.setting["scaling"] == "standardised":
            nodes = np.asarray(standardise(nodes))
        ends = np.array(case.graph["senders"]), np.array(case.graph["receivers"])
        graph = from_edges(*ends, nodes=nodes)._replace(nodes=jnp.asarray(nodes))
        params = [jnp.asarray(case.params()[name]) for name in case.names()]
        if layer == "gat":
            made = GATParams(params[0], params[2], params[3], params[1])
        else:
            made = GATv2Params(params[0], params[4], params[2], params[1], params[3])
        config = LayerConfig(heads=2, layer=layer, concat=False)
        settings = LayerSettings(slope=case.setting["slope"])
        out, info = apply_layer(made, graph, config=config, settings=settings)
        pairs = TwinPairs(np.array([2]), np.array([3]), np.array([False]))
        causes = np.asarray(pair_causes(info, graph, pairs, slope=settings.slope))[0]
        assert_close(found["outputs"], out, "outputs")
        assert_close(found["attention"], info.attention, "attention")
        entropy = normalised_entropy(info.attention, ends[1], 4)
        assert_close(found["normalised"], entropy, "entropy")
        by_name = [
            [name for name, holds in zip(CAUSES, row, strict=True) if holds] for row in causes
        ]
        assert found["causes"][0] == by_name
