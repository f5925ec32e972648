"""What the fuzz script draws ends as it should; `scripts/bench/fuzz.py` runs for longer."""

import random

import pytest
from bench import fuzz


@pytest.mark.slow
def test_commands_that_are_drawn_end_as_they_should(capsys):
    assert fuzz.main(["--seconds", "30", "--seed", "5"]) == 0
    assert "0 failures" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [fuzz.cut, fuzz.flip, fuzz.put, fuzz.swap_numbers])
def test_damage_is_done_and_is_the_same_again(kind):
    content = b'{"number": 12345}'
    found = [kind(content, random.Random(seed)) for seed in range(20)]
    assert found == [kind(content, random.Random(seed)) for seed in range(20)]
    assert sum(x != content for x in found) > 15
    assert isinstance(kind(b"", random.Random(0)), bytes)
