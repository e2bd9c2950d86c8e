"""No job imports what it does not need: a table is made without torch, help without anything."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "matplotlib", "skimage", "sklearn", "h5py", "tensorboard", "snakemake", "fastmri", "sigpy", "bm3d"}
MODULES = {
    "bench.__main__": HEAVY | {"pandas", "pydantic", "numpy", "requests", "scipy"},
    "bench.configfile": HEAVY | {"pandas", "numpy", "requests", "scipy"},
    "bench.plan": HEAVY | {"pandas", "scipy"},
    "bench.fetch": HEAVY | {"pandas", "numpy", "scipy"},
    "bench.layouts, bench.tables": HEAVY,
    "bench.ablations": HEAVY,
    "bench.registry": HEAVY | {"pandas", "scipy"},
    "bench.publish": HEAVY,
    "bench.holder": HEAVY | {"pandas", "pydantic", "numpy", "requests", "scipy"},
    "deal": {"matplotlib", "skimage", "sklearn", "snakemake", "fastmri", "pandas", "scipy", "pydantic", "h5py"},
    "bench.evaluate": {"matplotlib", "sklearn", "snakemake", "fastmri", "sigpy", "bm3d", "tensorboard"},
    "bench.training_job": {
        "matplotlib",
        "skimage",
        "sklearn",
        "snakemake",
        "fastmri",
        "sigpy",
        "bm3d",
        "pandas",
        "torch",
    },
}
"""What a verb imports before it works → what must not be loaded then."""


@pytest.mark.parametrize("modules", MODULES)
def test_what_is_loaded(modules: str) -> None:
    program = f"import sys, {modules}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    assert loaded & MODULES[modules] == set()
