import dataclasses

import numpy as np
import pytest
from bench.layer import cases, reference
from bench.layer.reference import WrongResultError
from bench_inputs import small_problem


@pytest.mark.parametrize("layer", list(cases.LAYERS))
def test_reference_gradients_are_differences_of_its_outputs(layer):
    problem = small_problem(layer, 12, 60)
    grads = reference.expected(problem)["forward+backward"]
    rng = np.random.default_rng(1)

    def loss(changed):
        outputs = reference.expected(changed)["forward"]["outputs"]
        return (outputs * problem.cotangent.astype(np.float64)).sum()

    for name, grad in grads.items():
        array = (problem.x if name == "x" else problem.params[name]).astype(np.float64)
        direction = rng.standard_normal(array.shape)
        losses = []
        for sign in (1, -1):  # far from the kink, where no score is
            moved = array + sign * 1e-6 * direction
            fields = {"x": moved} if name == "x" else {"params": problem.params | {name: moved}}
            losses.append(loss(dataclasses.replace(problem, **fields)))
        np.testing.assert_allclose((losses[0] - losses[1]) / 2e-6, (grad * direction).sum(), 1e-5)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "expected outputs of shape"),
        ({"outputs": np.ones((2, 2))}, "expected outputs of shape"),
        ({"outputs": np.array([1.0, np.nan])}, "got nan in outputs"),
        ({"outputs": np.array([1.0, 2.1])}, "got 0.05 in outputs"),
    ],
)
def test_check_refuses(found, message):
    with pytest.raises(WrongResultError, match=message):
        reference.check("it", found, {"outputs": np.array([1.0, 2.0])})
