"""Compiled programs on disk: a command's second run on a machine does not compile them again.

JAX keeps and finds them, by the program, the versions, the device and XLA's flags; here is only
said where. What a program computes does not depend on whether it was compiled or found, to the last
bit. The folder may be deleted at any time.
"""

import hashlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

import jax

from gat_jax.runtime.devices import cpu_lines

VARIABLE = "GAT_JAX_COMPILE_CACHE"  # a folder, or one of OFF
OFF = ("off", "0")
# What compiles faster is not worth a file.
MIN_SECONDS = 0.1


def use_compile_cache(is_wanted: bool = True) -> str | None:
    """Keep compiled programs from now on, in this process.

    The folder is the one of `VARIABLE`, of JAX's own `JAX_COMPILATION_CACHE_DIR`, or else one in
    the user's cache folder.

    Args:
      is_wanted: False keeps none, whatever the variables say.

    Returns:
      None, or in one line why none are kept: a cache that cannot be used costs time alone.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    wanted = os.environ.get(VARIABLE) or None
    if not is_wanted or wanted in OFF:
        return None
    given = wanted or os.environ.get("JAX_COMPILATION_CACHE_DIR") or None
    try:
        # Several machines may share a home, and JAX does not ask what instructions a CPU has.
        folder = given or str(cache_folder() / f"compiled-{_cpu_id()}")
        if "://" not in folder:  # a store in the net, which JAX looks at
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, RuntimeError, ValueError) as error:  # no home; a path with a null character
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["unknown"])[0]
        return f"compiled programs are not kept in {given or 'the user folder'} ({reason})"
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A file that a killed process left unfinished, or a disk that is full: the program is compiled.
    message = "Error (reading|writing) persistent compilation cache entry"
    warnings.filterwarnings("ignore", message=message)
    return None


def cache_folder() -> Path:
    """Return this package's folder in the user's cache folder; it need not exist.

    Raises:
      RuntimeError: if the user has no home.
    """
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "gat_jax"


def _cpu_id() -> str:
    """Return letters that tell CPUs of other instructions apart; the same where none are listed."""
    lines = {x for x in cpu_lines() if x.startswith(("flags", "Features", "model name"))}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:8]
