"""How programs are compiled, as their text shows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.runtime import programs


def squares(x):
    @programs.apart
    def part(x):
        return jnp.abs(x) * x

    square = part(x)
    return jnp.sum(square), jnp.max(square), jnp.sum(jnp.cos(square))


def test_what_is_computed_apart_is_computed_once():
    x = jnp.linspace(-1.0, 1.0, 1000)
    text = jax.jit(squares).lower(x).compile().as_text()
    assert text.count(" abs(") == 1
    np.testing.assert_allclose(jax.jit(squares)(x)[0], jnp.sum(jnp.abs(x) * x), atol=1e-6)
    by_row = jax.vmap(squares)(jnp.stack([x, -x, 2 * x]))
    np.testing.assert_allclose(by_row[1][2], 4.0, rtol=1e-6)
    assert jax.grad(lambda x: squares(x)[1])(x)[-1] == 2.0


def test_accelerators_have_nothing_apart(monkeypatch):
    """XLA for them fuses nothing in what it may not inline."""
    x = jnp.ones(8)
    assert "inlineable" in jax.jit(squares).lower(x).as_text()
    monkeypatch.setattr(programs, "platform", lambda: "gpu")
    assert "inlineable" not in jax.jit(lambda x: squares(x)).lower(x).as_text()


def test_platform_is_that_of_the_default_device():
    assert programs.platform() == jax.default_backend() == "cpu"
    with jax.default_device("tpu"):
        assert programs.platform() == "tpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert programs.platform() == "cpu"


def test_a_program_is_compiled_briefly_where_it_is_for_a_cpu(monkeypatch):
    """It is asked at each call: who makes the program may do so before there is a device."""
    asked = []
    monkeypatch.setattr(programs, "platform", lambda: asked.append(1) or "cpu")
    program = programs.jit_briefly(lambda x, *, power: x**power, static_argnames=("power",))
    assert not asked
    assert program(jnp.float32(3.0), power=2) == 9.0
    assert program.eval_shape(jnp.ones(3), power=2).shape == (3,)
    with pytest.raises(ValueError, match="compiler_options"):  # which it has at the top alone
        jax.jit(lambda x: program(x, power=2))(jnp.float32(1.0))
    monkeypatch.setattr(programs, "platform", lambda: "gpu")
    assert program(jnp.float32(3.0), power=3) == 27.0
    assert jax.jit(lambda x: program(x, power=2))(jnp.float32(3.0)) == 9.0
    assert program.lower(jnp.ones(3), power=2).compile()(jnp.ones(3)).shape == (3,)


@pytest.mark.parametrize(
    "name", ["xla_backend_optimization_level", "xla_cpu_experimental_ynn_fusion_type"]
)
@pytest.mark.parametrize("is_told", [False, True])
def test_an_option_that_xla_is_told_is_kept(monkeypatch, name, is_told):
    """An error of JAX says which options a program has."""
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=0" if is_told else "")
    program = programs.jit_briefly(jnp.sin)
    with pytest.raises(ValueError, match="compiler_options") as caught:
        jax.jit(lambda x: program(x))(jnp.float32(1.0))
    assert (f"'{name}'" in str(caught.value)) != is_told


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (None, "none"),
        ("--xla_force_host_platform_device_count=2 --xla_dump_to=folder", "none"),
        ("--xla_b=1  --xla_force_host_platform_device_count=2 --xla_a", "--xla_a --xla_b=1"),
        ("--xla_b=1 --xla_a --xla_gpu_cuda_data_dir=/usr --xla_b=2", "--xla_a --xla_b=2"),
    ],
)
def test_flags_that_change_no_number_are_left_out(monkeypatch, flags, expected):
    if flags is None:
        monkeypatch.delenv("XLA_FLAGS", raising=False)
    else:
        monkeypatch.setenv("XLA_FLAGS", flags)
    assert programs.flags_of_bits() == expected
