"""Profiles and the scripts under tests/integration: what can be checked without a cluster."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
RULES = {
    "fetch_dataset", "find_weights", "evaluate_method", "prepare_mri", "make_table", "time_method", "pack_images",
    "train_deal", "tune_method", "draw_tuning", "train_epll",
}  # fmt: skip


def profiles() -> dict[str, dict]:
    return {p.parent.name: yaml.safe_load(p.read_text(encoding="utf-8")) for p in ROOT.glob("profiles/*/config.yaml")}


def test_profiles_share_what_makes_runs_survive() -> None:
    found = profiles()
    assert {"default", "slurm", "kubernetes"} <= set(found)
    for name, profile in found.items():
        assert profile["keep-going"] and profile["rerun-incomplete"], name
        assert "timing=1" in profile["resources"], f"{name}: times are measured by one job at a time"
        if name != "default":
            assert profile["executor"] == name and profile["retries"] and profile["cores"], name


def test_profiles_name_rules_that_exist() -> None:
    for name, profile in profiles().items():
        for part in ("set-resources", "set-threads"):
            assert set(profile.get(part, {})) <= RULES, name


def test_every_rule_that_runs_asks_for_time_and_memory() -> None:
    asked = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in path.read_text(encoding="utf-8").split("\nrule ")[1:]:
            if "    shell:" in rule:
                assert "mem_mb=" in rule and "runtime=" in rule, rule.split(":")[0]
                asked.add(rule.split(":")[0])
    assert asked >= RULES


def test_profiles_have_keys_that_snakemake_knows() -> None:
    """Every key is an option of Snakemake or of the plug-ins that are installed."""
    from snakemake.cli import get_argument_parser

    known = get_argument_parser()._option_string_actions
    for name, profile in profiles().items():
        if name == "default" or importlib.util.find_spec(f"snakemake_executor_plugin_{name}") is not None:
            assert [key for key in profile if f"--{key}" not in known] == [], name


def test_a_dry_run_for_slurm() -> None:
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("needs snakemake-executor-plugin-slurm: pip install '.[cluster]'")
    command = [sys.executable, "-m", "snakemake", "table1", "-n", "--nolock", "--quiet", "rules"]
    command += ["--workflow-profile", "profiles/slurm", "--configfile", "tests/integration/small.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "evaluate_method" in done.stdout + done.stderr


@pytest.mark.parametrize("script", sorted((ROOT / "tests/integration").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_parse_and_skip_with_a_reason(script: Path, tmp_path: Path) -> None:
    """Without the programs that it starts, a script ends at once with status 77 and says why."""
    subprocess.run(["bash", "-n", script], check=True)
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "env", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        [str(shutil.which("bash")), script], env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True
    )
    assert done.returncode == 77, done.stderr
    assert done.stdout.startswith("skipped: ")
