"""Data sets by name from the net: only those whose SHA-256 stands here, and nothing else.

Nothing is downloaded that nobody asked for: `download` is called by the user.
"""

import importlib.util
import logging
from pathlib import Path

from gat_jax.runtime.arrays import shown
from gat_jax.runtime.compile_cache import cache_folder
from gat_jax.runtime.text import visible

# The commit is named, so that the files are the ones below, whatever comes after.
PLANETOID = (
    "https://raw.githubusercontent.com/kimiyoung/planetoid/"
    "af6abf468a772cc055bec88c52e4d6f51b7c37e3/data/"
)
# Data set: file: SHA-256.
HASHES: dict[str, dict[str, str]] = {
    "cora": {
        "ind.cora.x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    },
}
TIMEOUT = 30.0  # seconds without an answer
MAX_REASON = 200  # letters of a reason that another package gives


def download(name: str, *, base_url: str = PLANETOID, folder: str | Path | None = None) -> Path:
    """Download the files of a data set, unless they are there already.

    `load_task(download("cora"))` reads Cora.

    Args:
      name: of the data set: "cora". Its files are those of the Planetoid repository (MIT; its
        authors ask for a citation of Yang, Cohen and Salakhutdinov 2016).
      base_url: where the files are, with a slash at its end.
      folder: where they are kept; None is a folder of the data set in the user's cache folder.

    Returns:
      The folder with the files, each of which has the SHA-256 that stands in this module.

    Raises:
      ValueError: one line: if there is no such data set, the extra `data` is not installed, a file
        cannot be had or kept, or is another one.
    """
    if name not in [*HASHES]:
        raise ValueError(f"name: expected {', '.join(HASHES)}, got {shown(name)}")
    if importlib.util.find_spec("pooch") is None:
        raise ValueError(
            "download: expected the extra `data` (pip install 'gat_jax[data]'), got no pooch"
        )
    import pooch  # as this import takes long

    try:
        place = cache_folder() / "data" / name if folder is None else Path(folder)
    except RuntimeError as error:
        raise ValueError("folder: expected one, got none for a user without a home") from error
    hashes = {file: f"sha256:{digest}" for file, digest in HASHES[name].items()}
    store = pooch.create(path=place, base_url=base_url, registry=hashes)
    answer = pooch.HTTPDownloader(timeout=TIMEOUT, headers={"Connection": "close"})
    logger = pooch.get_logger()  # it prints a line for each file
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        for file, digest in hashes.items():
            try:
                # Its own class has other names of arguments than its own annotation.
                store.fetch(file, downloader=answer)  # pyright: ignore[reportArgumentType]
            except (OSError, ValueError) as error:  # those of `requests` are of the system's
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                reason = visible(lines[0] if lines else type(error).__name__)[:MAX_REASON]
                if isinstance(error, ValueError) and "hash" in reason:
                    reason = "a file with another"
                raise ValueError(
                    f"{visible(base_url)}{file}: expected a file with {digest}, got {reason}"
                ) from error
    finally:
        logger.setLevel(level)
    return place
