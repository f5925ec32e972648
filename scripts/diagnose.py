"""`gat-jax diagnose` in a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gat_jax.commands.main import console

if __name__ == "__main__":
    console("diagnose")
