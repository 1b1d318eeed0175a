"""What is installed is what the checkout holds: the wheel is built and installed here, without a network."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from cascade.policy.shipped import names, shipped

ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCE = (".venv", ".git", ".cache", ".hypothesis", ".*_cache", "__pycache__", "build", "dist", "node_modules")

CORPORA = ("coding", "history", "support")  # what the demo needs

LIST = """
import json
from cascade.policy.shipped import names, shipped
print(json.dumps({kind: {name: str(shipped(kind, name)) for name in names(kind)} for kind in ("policies", "corpora")}))
"""


class Install(NamedTuple):
    """A fresh virtual environment with `cascade` in it, and the copy of the checkout it came from."""

    python: Path
    site: Path
    tree: Path

    def run(self, code: str, cwd: Path) -> str:
        """Run `code` in isolated mode, so that neither `cwd` nor PYTHONPATH helps it to find the package."""
        return run(str(self.python), "-I", "-c", code, cwd=cwd)


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its output; what it said is shown when it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def copy_of_checkout(to: Path) -> Path:
    """Copy the checkout's sources."""
    return Path(shutil.copytree(ROOT, to / "tree", ignore=shutil.ignore_patterns(*NOT_SOURCE)))


def build(tree: Path, target: str, to: Path) -> Path:
    """Build a wheel or an sdist with the backend that is installed here; nothing is downloaded."""
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(to), cwd=tree)
    (built,) = to.iterdir()
    return built


def environment(at: Path) -> tuple[Path, Path]:
    """Make a virtual environment that sees the packages running this test; give its interpreter and site-packages."""
    venv.create(at, with_pip=False, symlinks=os.name != "nt")
    python = at / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=at).strip())
    # A plain line adds the folder only: the .pth files in it, an editable cascade's among them, are not followed.
    (site / "running.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python, site


def install(python: Path, *what: str, cwd: Path) -> None:
    """Install with pip, offline; the distributions seen through `running.pth` are left alone."""
    pip = (sys.executable, "-m", "pip", "--isolated", "--python", str(python), "install", "--quiet")
    run(*pip, "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", *what, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the checkout."""
    base = tmp_path_factory.mktemp("wheel")
    return build(copy_of_checkout(base), "wheel", base / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Install the wheel into a fresh environment; the tree it was built from stays where it is."""
    base = tmp_path_factory.mktemp("installed")
    python, site = environment(base / "venv")
    install(python, str(wheel), cwd=base)
    return Install(python, site, wheel.parents[1] / "tree")


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Install a copy of the checkout into a fresh environment, in editable mode."""
    base = tmp_path_factory.mktemp("editable")
    tree = copy_of_checkout(base)
    python, site = environment(base / "venv")
    install(python, "--editable", str(tree), cwd=base)
    return Install(python, site, tree)


def contents(archive: Path) -> dict[str, bytes]:
    """Read every file of a wheel."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_wheel_holds_the_package_and_what_ships_and_nothing_else(wheel: Path) -> None:
    """The policies, their schema, the demo's synthetic corpora and `py.typed` are in the wheel; tests and tools are not."""
    files = contents(wheel)
    carried = {name: data for name, data in files.items() if name.startswith("cascade/_shipped/")}
    expected = {f"cascade/_shipped/policies/{path.name}": path for path in (ROOT / "policies").iterdir()}
    for name in CORPORA:
        expected[f"cascade/_shipped/corpora/{name}.jsonl.gz"] = ROOT / "benchmarks" / "corpora" / f"{name}.jsonl.gz"
    assert carried == {name: path.read_bytes() for name, path in expected.items()}
    assert {"cascade/_shipped/policies/default.yaml", "cascade/_shipped/policies/policy.schema.json"} <= carried.keys()
    assert "cascade/py.typed" in files
    assets = {f"cascade/calibration/report/assets/{name}" for name in ("report.html.j2", "report.css", "report.js")}
    assets |= {
        f"cascade/dashboard/pages/assets/{name}"
        for name in ("base.html.j2", "dashboard.css", "dashboard.js", "icon.svg")
    }
    assert assets <= files.keys()
    metadata = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    assert {name.partition("/")[0] for name in files} == {"cascade", metadata}


def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """A wheel built from the unpacked sdist has the same files with the same bytes."""
    sdist = build(wheel.parents[1] / "tree", "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert contents(build(unpacked, "wheel", tmp_path / "again")) == contents(wheel)


def test_installed_wheel_finds_what_ships_by_name(installed: Install, tmp_path: Path) -> None:
    """From any folder, an installed wheel gives every policy and the demo's corpora, each out of its own package."""
    found: dict[str, dict[str, str]] = json.loads(installed.run(LIST, tmp_path))
    assert tuple(found["policies"]) == names("policies")
    assert tuple(found["corpora"]) == CORPORA
    for path in (*found["policies"].values(), *found["corpora"].values()):
        assert Path(path).is_file()
        assert Path(path).is_relative_to(installed.site)


def test_installed_wheel_ignores_a_stranger_beside_it(installed: Install, tmp_path: Path) -> None:
    """A `policies/` folder that another package left in site-packages is never taken for ours."""
    stranger = installed.site / "policies"
    stranger.mkdir()
    try:
        (stranger / "stranger.yaml").write_text("version: 1\n", encoding="utf-8")
        assert "stranger" not in json.loads(installed.run(LIST, tmp_path))["policies"]
    finally:
        shutil.rmtree(stranger)


def test_editable_install_finds_what_ships_in_the_checkout(editable: Install, tmp_path: Path) -> None:
    """From any folder, an editable install gives the checkout's own files, and leaves no copy in site-packages."""
    found: dict[str, dict[str, str]] = json.loads(editable.run(LIST, tmp_path))
    assert tuple(found["policies"]) == names("policies")
    assert "support" in found["corpora"]
    assert {Path(path).parent for path in found["policies"].values()} == {editable.tree / "policies"}
    assert {Path(path).parent for path in found["corpora"].values()} == {editable.tree / "benchmarks" / "corpora"}
    assert not list(editable.site.rglob("_shipped"))
    assert not list(editable.site.rglob("*.yaml"))


def test_editable_install_sees_an_edit_at_once(editable: Install, tmp_path: Path) -> None:
    """A policy edited in the checkout, and one added to it, are read as they stand, without installing again."""
    edited, added = editable.tree / "policies" / "default.yaml", editable.tree / "policies" / "added.yaml"
    before = edited.read_text(encoding="utf-8")
    read = "from cascade.policy.shipped import shipped; print(shipped('policies', {!r}).read_text(encoding='utf-8'))"
    try:
        edited.write_text(before + "# edited\n", encoding="utf-8")
        added.write_text("# added\n", encoding="utf-8")
        assert editable.run(read.format("default"), tmp_path).rstrip().endswith("# edited")
        assert editable.run(read.format("added"), tmp_path).rstrip() == "# added"
    finally:
        edited.write_text(before, encoding="utf-8")
        added.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["", "nothing", "default.yaml", "../policies/default", "*", "/etc/passwd"])
def test_a_name_that_does_not_ship_is_none(name: str) -> None:
    """Only a plain name of something that ships gives a path: no suffix, folder or wildcard gets through."""
    assert shipped("policies", name) is None
    assert shipped("corpora", name) is None


def test_everything_but_dev_is_in_the_extra_all(installed: Install) -> None:
    """`cascade-ladder[all]` brings every optional dependency but the developers' tools."""
    (metadata,) = importlib.metadata.distributions(name="cascade-ladder", path=[str(installed.site)])
    brought: dict[str, set[str]] = {extra: set() for extra in metadata.metadata.get_all("Provides-Extra", [])}
    for requirement in map(Requirement, metadata.requires or []):
        for extra, packages in brought.items():
            if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
                packages.add(requirement.name)
    everything, tools = brought.pop("all"), brought.pop("dev")
    assert everything == set().union(*brought.values())
    assert everything.isdisjoint(tools)


def test_entry_points_are_the_command_and_the_pytest_plugin(installed: Install) -> None:
    """The wheel brings the `cascade` command and the emulator's pytest plugin."""
    (metadata,) = importlib.metadata.distributions(name="cascade-ladder", path=[str(installed.site)])
    points = {(point.group, point.name): point.value for point in metadata.entry_points}
    assert points == {
        ("console_scripts", "cascade"): "cascade.cli:main",
        ("pytest11", "cascade_emulator"): "cascade.emulator.pytest_plugin",
    }
