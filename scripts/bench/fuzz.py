"""Draw command lines, damaged files and signals, and see that every command ends as it should.

    python scripts/bench/fuzz.py --seconds 600 --seed 0

Whatever a command is given, it ends in time with one of the exit codes that `runtime/cli` lists,
without a traceback, and what it finds wrong costs one line. Exit code 1 if one did not; it is
printed with all that is needed to try it again.
"""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gat_jax.runtime import cli
from gat_jax.runtime.text import shell_words, visible

SCRIPTS = Path(__file__).resolve().parents[1]
CODES = {0, cli.FAILED, cli.BAD_INPUT, cli.INTERRUPTED, cli.TERMINATED}
PATIENCE = 300.0  # seconds for a command that is small, on a machine that has more to do
SMALL = ["--num-inits", "100"]
STUDY = [
    *("--num-inits", "512", "--num-graph-inits", "16", "--num-data-inits", "16"),
    *("--num-runs", "2", "--num-steps", "1000", "--num-article-steps", "1000"),
]

# What is given for an option, of whatever kind the option is.
VALUES = (
    *("", " ", "0", "1", "-1", "2", "1e9", "nan", "inf", "-0.0", "1e400", "99999999999999999999"),
    *("True", "None", "[1]", "[red]x[/red]", "a b", "a\nb", "\x1b[31m", "\u202eabc", "é", "图"),
    *("g.npz", "./g.npz", "bad.npz", "missing.npz", "g.npz+self_loops", "+self_loops", "/", "..."),
    *("/dev/full", "/dev/null", "/proc/x", "x" * 300, "y/" * 2000, "spec.toml", "s.zarr", "folder"),
    *("gat", "gatv2", "gcn", "raw", "normal", "pyg", "tutorial", "karate_club", "auto", "1K", "8G"),
)
OPTIONS = (
    *("graph", "layer", "heads", "channels", "initializer", "features", "slope", "gain", "seed"),
    *(
        "num-inits",
        "measure",
        "keep",
        "precision",
        "block-size",
        "out",
        "spec",
        "dry-run",
        "memory",
    ),
    *("chunk-size", "devices", "process-id", "nonsense", "traceback-not", "help"),
)
VARIABLES = (
    {"JAX_PLATFORMS": "nonsense"},
    {"JAX_PLATFORMS": "cuda"},
    {"JAX_ENABLE_X64": "1"},
    {"JAX_ENABLE_X64": "perhaps"},
    {"XLA_FLAGS": "--nonsense"},
    {"COLUMNS": "20"},
    {"COLUMNS": "x"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONOPTIMIZE": "2"},
    {"TMPDIR": "/nonexistent"},
    {"MPLCONFIGDIR": "/dev/null/x", "HOME": "/nonexistent"},
    {"PATH": "/nonexistent"},
    {"TERM": "dumb", "NO_COLOR": "1"},
    {"FORCE_COLOR": "1"},
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Draw command lines and damaged files until the time is over."""

    seconds: float = 60.0
    """how long; the command under way is finished"""
    seed: int = 0
    """of what is drawn"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the commands; returns the exit code."""
    options = cli.parse(Options, argv)
    rng, start, number = random.Random(options.seed), time.monotonic(), 0
    failures = []
    # Where Ctrl-C is ignored, as in a shell's background job, the commands would ignore it as well.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="gat-jax-fuzz-") as folder:
        template = Path(folder) / "template"
        make_template(template)
        while time.monotonic() - start < options.seconds:
            place = Path(folder) / "work"
            shutil.copytree(template, place)
            told = attempt(place, rng)
            if told:
                failures.append(told)
                print(told, flush=True)
            shutil.rmtree(place)
            number += 1
    print(f"{number} commands, {len(failures)} failures, seed {options.seed}")
    return 1 if failures else 0


def make_template(folder: Path) -> None:
    """Write files that are sound: a graph, a spec, a store with kept values."""
    folder.mkdir()
    senders, receivers = np.array(
        [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (3, 0), (2, 1), (3, 1)]
    ).T
    np.savez(
        folder / "g.npz",
        num_nodes=np.int64(4),
        senders=senders,
        receivers=receivers,
        feat_indptr=2 * np.arange(5),
        feat_indices=np.tile([0, 1], 4),
        feat_data=np.arange(1.0, 9.0, dtype=np.float32),
        feat_shape=np.array([4, 2]),
        labels=np.array([0, 1, 0, 1]),
        labelled=np.ones(4, bool),
    )
    (folder / "folder").mkdir()
    shutil.copy(folder / "g.npz", folder / "folder")
    (folder / "bad.npz").write_bytes(b"PK\x03\x04 no graph")
    (folder / "spec.toml").write_text('graph = ["tutorial"]\nheads = [1]\nnum_inits = 100\n')
    command = [sys.executable, SCRIPTS / "sweep.py", *SMALL, "--keep", "raw", "--out", "s.zarr"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


# --- one command --------------------------------------------------------------------------------


def attempt(place: Path, rng: random.Random) -> str:
    """Run one command in a folder; return what is wrong with how it ended, or nothing."""
    damaged = damage(place, rng) if rng.random() < 0.5 else ""
    kinds = [draw_sweep] * 6 + [draw_going_on] * 4 + [draw_summarise] * 4 + [draw_study]
    arguments = rng.choice(kinds)(rng)  # the last one takes far longer than the others
    variables = rng.choice(VARIABLES) if rng.random() < 0.25 else {}
    number = rng.choice([signal.SIGINT, signal.SIGTERM]) if rng.random() < 0.25 else None
    seconds = rng.uniform(0.3, 8.0)
    environment = {**os.environ, **variables}
    arguments = [word for word in arguments if "\0" not in word]
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wrong = []
    try:
        if number is not None:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                start = time.monotonic()
        output = process.communicate(timeout=PATIENCE if number is None else 15)
    except subprocess.TimeoutExpired:
        wrong.append(f"still runs after {time.monotonic() - start:.0f} s")
        process.kill()
        output = process.communicate()
    errors = output[1].decode(errors="replace")
    lines = [line for line in errors.splitlines() if line.strip()]
    if process.returncode not in CODES and not wrong:
        wrong.append(f"exit code {process.returncode}")
    if "Traceback" in errors:
        wrong.append("a traceback")
    if process.returncode == cli.BAD_INPUT and (
        len(lines) != 1 or not lines[0].startswith("error: ")
    ):
        wrong.append(f"{len(lines)} lines of bad input")
    left = [path for path in place.rglob(".new-*")]
    if left and process.returncode in CODES:
        wrong.append(f"left behind {left[0].name}")
    if not wrong:
        return ""
    words = [*(f"{k}={v}" for k, v in variables.items()), "python", *arguments]
    told = "\n    ".join(map(visible, lines[-12:]))
    sent = f", {number.name} after {seconds:.2f} s" if number else ""
    return f"FAILED {', '.join(wrong)}: {shell_words(words)}{sent}\n  {damaged}\n    {told}"


def draw_sweep(rng: random.Random) -> list[str]:
    """Return a sweep with some options that may be anything."""
    words = [str(SCRIPTS / "sweep.py"), *SMALL]
    for _ in range(rng.randint(0, 3)):
        words.append(f"--{rng.choice(OPTIONS)}")
        words += [rng.choice(VALUES) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    return words if "--out" in words else [*words, "--out", rng.choice(["s.zarr", "new.zarr"])]


def draw_going_on(rng: random.Random) -> list[str]:
    """Return a sweep that goes on with the store."""
    more = rng.choice([[], ["--heads", "1", "2"], ["--graph", "tutorial", "g.npz"]])
    number = rng.choice(["100", "200", "20000"])
    words = ["--num-inits", number, "--keep", "raw", *more, "--out", "s.zarr"]
    return [str(SCRIPTS / "sweep.py"), *words, *rng.choice([[], ["--dry-run"]])]


def draw_summarise(rng: random.Random) -> list[str]:
    """Return a summary of the store, or of something else."""
    store = rng.choice(["s.zarr", "s.zarr", "s.zarr", "s.zarr/", *VALUES])
    return [str(SCRIPTS / "sweep.py"), "summarise", store]


def draw_study(rng: random.Random) -> list[str]:
    """Return the main job, small, on files that may be damaged."""
    words = [str(SCRIPTS / "reproduce.py"), *STUDY, "--out", rng.choice(["r", *VALUES])]
    return words + rng.choice([[], ["--data", "folder"], ["--data", rng.choice(VALUES)]])


# --- damage -------------------------------------------------------------------------------------


def damage(place: Path, rng: random.Random) -> str:
    """Damage one file; return what was done to it."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    chosen = [path for path in files if "blocks" in path.parts or path.parent == place] + files
    file = rng.choice(chosen)
    kinds: list[Callable[[bytes, random.Random], bytes]] = [cut, flip, put, _nothing, swap_numbers]
    kind = rng.choice(kinds)
    file.write_bytes(kind(file.read_bytes(), rng))
    if rng.random() < 0.1:
        file.unlink()
        return f"{file.relative_to(place)} is gone"
    return f"{file.relative_to(place)} after {kind.__name__}"


def cut(content: bytes, rng: random.Random) -> bytes:
    """Return the beginning of a file."""
    return content[: rng.randrange(len(content) + 1)]


def flip(content: bytes, rng: random.Random) -> bytes:
    """Return a file with some of its bytes changed."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 30])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def put(content: bytes, rng: random.Random) -> bytes:
    """Return a file with something in the middle."""
    place = rng.randrange(len(content) + 1)
    middle = rng.choice([b"\0", b"\xff\xfe", b"[", b'"', b"null", b"-1", b"\n\n", b"{}" * 50])
    return content[:place] + middle + content[place:]


def swap_numbers(content: bytes, rng: random.Random) -> bytes:
    """Return a file of text with one number changed."""
    digits = [k for k, byte in enumerate(content) if byte in b"0123456789"]
    if not digits:
        return content
    place = rng.choice(digits)
    return content[:place] + rng.choice([b"9", b"-1", b"0", b"1e3", b"null"]) + content[place + 1 :]


def _nothing(content: bytes, rng: random.Random) -> bytes:
    return b""


if __name__ == "__main__":
    sys.exit(main())
