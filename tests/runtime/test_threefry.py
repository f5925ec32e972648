import numpy as np

from gat_jax.runtime.threefry import threefry


def test_words_are_those_of_the_authors():
    """Known answers of the Random123 library: threefry2x32, 20 rounds."""
    key = np.array([0x13198A2E, 0x03707344], np.uint32)
    x0, x1 = np.uint32([0x243F6A88]), np.uint32([0x85A308D3])
    assert [hex(int(x[0])) for x in threefry(key, x0, x1)] == ["0xc4923a9c", "0x483df7a0"]
