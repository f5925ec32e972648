"""What there is to compute on, on systems that do not say it as Linux does."""

import os

import pytest

from gat_jax.runtime import devices


def test_num_cores_are_those_this_process_may_use():
    assert devices.num_cores() == len(os.sched_getaffinity(0))


def test_num_cores_falls_back_to_those_of_the_machine(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert devices.num_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert devices.num_cores() == 1
    devices.use_cores(None)  # JAX may be in use: then nothing changes


def test_total_memory_is_that_of_the_machine():
    pages = os.sysconf("SC_PHYS_PAGES")
    assert devices.total_memory() == pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("hidden", ["sysconf", "name", "number"])
def test_total_memory_falls_back_to_an_assumption(monkeypatch, hidden):
    if hidden == "sysconf":
        monkeypatch.delattr(os, "sysconf")  # as on Windows
    elif hidden == "name":
        monkeypatch.delitem(os.sysconf_names, "SC_PHYS_PAGES")
    else:
        monkeypatch.setattr(os, "sysconf", lambda name: -1)
    assert devices.total_memory() == devices.ASSUMED_MEMORY
