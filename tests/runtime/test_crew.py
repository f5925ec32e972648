"""Workers that fit: what each has to be, so that all results have the same bits."""

import pytest

from gat_jax.runtime.crew import expected_of

HERE = {"gat_jax": "1", "jax": "0.10", "platform": "cpu", "device": "EPYC"}
GPU = {"platform": "gpu", "device": "H200"}
FAST, SAFE = {"XLA_FLAGS": "--fast"}, {"XLA_FLAGS": "none"}


@pytest.mark.parametrize(
    ("here", "workers", "expected"),
    [
        (HERE, [], HERE),
        (HERE, [HERE, HERE], HERE),
        (HERE, [HERE | {"host": "b"}], HERE),
        # The front end of a cluster of GPUs has none of its own.
        (HERE, [HERE | GPU, HERE | GPU], HERE | GPU),
        (HERE | GPU, [HERE | GPU], HERE | GPU),
        (HERE | {"cores": "2"}, [HERE | GPU | {"cores": "any"}], HERE | GPU | {"cores": "any"}),
        (HERE | FAST, [HERE | GPU | SAFE], HERE | GPU | SAFE),
        (HERE | FAST, [HERE | SAFE], "workers: expected XLA_FLAGS --fast, got none on a"),
        (HERE, [HERE, HERE | {"device": "Xeon"}], "workers: expected device EPYC, got Xeon on b"),
        (HERE, [HERE | {"device": "Xeon"}], "workers: expected device EPYC, got Xeon on a"),
        (HERE, [HERE, HERE | GPU], "workers: expected platform cpu, got gpu on b"),
        (HERE, [HERE | GPU, HERE], "workers: expected platform cpu, got gpu on a"),
        (
            HERE,
            [HERE | GPU, HERE | GPU | {"device": "H100"}],
            "workers: expected device H200, got H100 on b",
        ),
        (HERE | GPU, [HERE], "workers: expected platform gpu, got cpu on a"),
        (HERE, [HERE | {"jax": "0.11"}], "workers: expected jax 0.10, got 0.11 on a"),
        (HERE, [HERE | GPU | {"jax": "0.11"}], "workers: expected jax 0.10, got 0.11 on a"),
        (HERE | {"cores": "2"}, [HERE], "workers: expected cores 2, got none on a"),
        (HERE, [{"gat_jax": "older"}], "workers: expected gat_jax 1, got older on a"),
    ],
)
def test_workers_have_to_give_the_same_bits(here, workers, expected):
    found = dict(zip("ab", workers, strict=False))
    if isinstance(expected, dict):
        assert expected_of(here, found) == expected
        return
    with pytest.raises(ValueError, match=f"^{expected}$"):
        expected_of(here, found)
