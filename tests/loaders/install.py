"""Install TRL, verl and OpenRLHF from PyPI, apart from the project's own environment, for the tests of this folder.

    python tests/loaders/install.py

They pin transformers releases that exclude each other, so one virtual environment holds what they share, torch above all, and
a folder for each trainer is put in front of it: `$LOADERS_HOME/venv` and `$LOADERS_HOME/overlays/NAME` (default `.loaders`).
Some 2 GB and two minutes; what is finished is not done again. Where torch would bring CUDA, name an index of CPU builds in
TORCH_INDEX. If anything cannot be installed, the reason is said and the tests skip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ.get("LOADERS_HOME") or Path(__file__).resolve().parents[2] / ".loaders").resolve()
TORCH = "torch==2.13.0"
SHARED = ["trl==1.16.0", "transformers==5.23.0", "datasets==5.2.0", "pyarrow==26.0.1", "pandas==3.1.1", "numpy==2.4.6", "accelerate==1.15.0", "httpx==0.28.1", "requests==2.34.2", "tensordict==0.10.0", "ray==2.60.0", "hydra-core==1.3.8", "omegaconf==2.3.1", "torchdata==0.11.0", "codetiming==1.4.0", "peft==0.21.2", "pillow==13.0.0", "pylatexenc==2.11", "sympy==1.14.0"]
OVERLAYS = {
    "verl": ["verl==0.9.1", "transformers==5.9.0", "tokenizers==0.22.2", "huggingface_hub==1.33.0"],
    "openrlhf": ["openrlhf==0.11.2", "transformers==5.15.0", "tokenizers==0.22.2", "huggingface_hub==1.33.0"],
}


class CannotInstallError(Exception):
    """Why not, in one line."""


def pip(*arguments: str) -> str:
    """What pip says on standard output."""
    constraints = HOME / "constraints.txt"
    constraints.write_text(TORCH + "\n")
    command = [str(HOME / "venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "-c", str(constraints), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        said = (done.stderr.strip() or "pip failed").splitlines()
        raise CannotInstallError(next((line for line in said if "ERROR" in line), said[-1]))
    return done.stdout


def install() -> None:
    """Everything that is not there yet. Raises `CannotInstallError`."""
    HOME.mkdir(parents=True, exist_ok=True)
    index = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    if not step("shared", [TORCH, *SHARED]):
        shutil.rmtree(HOME / "venv", ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], capture_output=True, text=True)
        if made.returncode:
            raise CannotInstallError(f"{sys.executable} cannot make virtual environments: install its venv module")
        plan = json.loads(pip("--dry-run", "--report", "-", *index, TORCH))
        heavy = [entry["metadata"]["name"] for entry in plan["install"] if entry["metadata"]["name"].startswith(("nvidia", "cuda", "triton"))]
        if heavy:
            raise CannotInstallError(f"{TORCH} would bring {heavy[0]} and more: name an index of CPU builds in TORCH_INDEX")
        pip(*index, TORCH)
        pip(*SHARED)
        finished("shared", [TORCH, *SHARED])
    for name, pins in OVERLAYS.items():
        if not step(name, pins):
            folder = HOME / "overlays" / name
            shutil.rmtree(folder, ignore_errors=True)
            pip("--no-deps", "--target", str(folder), *pins)
            finished(name, pins)


def step(name: str, pins: list[str]) -> bool:
    """Whether it was finished with the same pins."""
    stamp = HOME / f"{name}.pins"
    return stamp.is_file() and stamp.read_text().split() == pins


def finished(name: str, pins: list[str]) -> None:
    (HOME / f"{name}.pins").write_text("\n".join(pins) + "\n")


def main() -> None:
    try:
        install()
    except (CannotInstallError, OSError, subprocess.TimeoutExpired) as error:
        HOME.mkdir(parents=True, exist_ok=True)
        (HOME / "why-not.txt").write_text(f"{error}\n")
        print(f"the trainers cannot be installed here: {error}", file=sys.stderr)
        return
    (HOME / "why-not.txt").unlink(missing_ok=True)
    print(f"the trainers are in {HOME}")


if __name__ == "__main__":
    main()
