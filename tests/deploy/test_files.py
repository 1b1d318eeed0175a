"""The files in docs/deploy: their steps run here as far as they can without a container engine, and what they name exists."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from cascade.cli.app import app
from cascade.gateway.openapi import document
from cascade.gateway.settings import Limits
from cascade.policy.loading import load_policy
from tests.servers import absent

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    one for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())
]
NOBODY = 65_534


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what they say, in order. It has no line that goes on in the next."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def said(word: str) -> list[str]:
    """What the instructions of one kind say."""
    return [rest for found, rest in instructions() if found == word]


def parsed(command: Sequence[str]) -> dict[str, Any]:
    """The options of a `cascade …` command line, by the program's own parser. Fails for one that it does not have."""
    group: Any = typer.main.get_command(app)
    name, *rest = command
    return (
        group.commands[name]
        .make_context(name, list(rest), resilient_parsing=False, ignore_unknown_options=False)
        .params
    )


def known_variables() -> set[str]:
    """The variables of the environment that the program reads."""
    text = "".join(path.read_text() for path in (ROOT / "cascade").rglob("*.py"))
    return set(re.findall(r'"(CASCADE_[A-Z_]+|ANTHROPIC_API_KEY)"', text)) | {"ANTHROPIC_API_KEY"}


def manifest(kind: str) -> dict[str, Any]:
    """The only one of a kind."""
    (found,) = (one for one in MANIFESTS if one["kind"] == kind)
    return found


@dataclass(frozen=True)
class Image:
    """What the Dockerfile's steps have made, in a folder in place of `/`."""

    root: Path
    user: int | None

    def run(self, command: str | Sequence[Any], **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as the build does, or as the container's user."""
        started = self.start(command, **more)
        out, err = started.communicate(timeout=120)
        return subprocess.CompletedProcess(command, started.returncode, out, err)

    def start(
        self, command: str | Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start it."""
        path = f"{self.root}/opt/cascade/bin:{self.root}/bin:{os.environ['PATH']}"
        home = str(self.root / "var/lib/cascade")
        # Offline, into these folders alone; the packages that run this test are seen, so none is fetched.
        pip = {
            "PIP_NO_INDEX": "1",
            "PIP_NO_COMPILE": "1",
            "PIP_NO_DEPS": "1",
            "PIP_IGNORE_INSTALLED": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
        }
        return subprocess.Popen(
            command, shell=isinstance(command, str), cwd=self.root / "src", text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=self.user, group=self.user,
            extra_groups=None if self.user is None else [],
            env={"PATH": path, "HOME": home, "CASCADE_HOME": home, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **pip, **(environment or {})},
        )  # fmt: skip


_PYTHON = """#!{python}
import os, sys
if sys.argv[1:3] == ["-m", "venv"]:
    import sysconfig, venv
    venv.create(sys.argv[3], with_pip=False, symlinks=True)
    site = sysconfig.get_path("purelib", vars={{"base": sys.argv[3]}})
    with open(os.path.join(site, "running.pth"), "w") as seen:
        seen.write({packages!r} + "\\n")
else:
    os.execv({python!r}, ["python", *sys.argv[1:]])
"""


def _packages() -> str:
    """The folders of the packages that run this test, a line each: those of a .pth are not followed from a .pth."""
    own = sysconfig.get_path("purelib")
    return "\n".join(dict.fromkeys([own, *(one for one in sys.path if one.endswith("site-packages"))]))


def _nobody_runs_python() -> bool:
    """Whether the steps can be those of another user: root alone can change to one, and the interpreter may be in root's home."""
    if os.geteuid() != 0:
        return False
    with contextlib.suppress(PermissionError):
        return not subprocess.run(
            [sys.executable, "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], check=False
        ).returncode
    return False


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Do the Dockerfile's steps up to the last stage, as a user that is not root where that can be."""
    with contextlib.ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="cascade-image-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        user = NOBODY if _nobody_runs_python() else None
        for name in ("src", "bin", "var/lib/cascade", "opt", "wheels"):
            (root / name).mkdir(parents=True)
        for one in said("COPY"):
            *sources, target = one.split()
            if not one.startswith("--from"):
                for source in sources:
                    at = root / "src" / target / ("" if (ROOT / source).is_dir() else source)
                    copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                    copy(ROOT / source, at)
        shim = root / "bin" / "python"
        shim.write_text(_PYTHON.format(python=sys.executable, packages=_packages()))
        shim.chmod(0o755)
        root.chmod(0o755)
        if user is not None:
            for path in (root, *root.rglob("*")):
                os.chown(path, user, user)
        made = Image(root, user)
        extras = next(one for one in said("ARG") if one.startswith("EXTRAS=")).partition("=")[2]
        for step in said("RUN")[:2]:
            placed = re.sub(r"(?<![\w.])/(opt|wheels)\b", rf"{root}/\1", step)
            done = made.run(placed, environment={"EXTRAS": extras})
            assert done.returncode == 0, f"{placed}\n{done.stdout}{done.stderr}"
        yield made


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def test_the_image_serves_as_another_user_and_ends_at_sigterm(image: Image) -> None:
    """On loopback, so without a key; the health check says yes, and no once it is gone; the end is in good order."""
    entrypoint: list[str] = json.loads(said("ENTRYPOINT")[0])
    command: list[str] = json.loads(said("CMD")[0])
    assert entrypoint == ["cascade"]
    assert Path(shutil.which("cascade", path=f"{image.root}/opt/cascade/bin") or "").is_file()
    port = str(free_port())
    here = [{"8484": port, "0.0.0.0": "127.0.0.1"}.get(one, one) for one in command]
    serving = image.start([*entrypoint, *here], environment={"ANTHROPIC_API_KEY": "none"})
    (check,) = said("HEALTHCHECK")
    health = [one.replace("8484", port) for one in json.loads(check.partition("CMD ")[2])]
    try:
        assert serving.stdout is not None
        assert port in serving.stdout.readline()  # it says where it is once it listens
        healthy = image.run(health)
        assert (healthy.returncode, healthy.stderr) == (0, "")
    finally:
        serving.send_signal(getattr(signal, said("STOPSIGNAL")[0]))
        _, err = serving.communicate(timeout=60)
    assert serving.returncode == 0, err
    assert image.run(health).returncode == 1


def test_what_the_image_installs_is_what_serving_needs() -> None:
    """Its extras exist; the dockerignore lets through what is copied and nothing else."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    extras = next(one for one in said("ARG") if one.startswith("EXTRAS=")).partition("=")[2].split(",")
    assert {"gateway", "redis", "postgres", "prometheus"} <= set(extras)
    assert Requirement(f"x[{','.join(extras)}]").extras == set(extras)
    assert all(re.search(rf"^{one} = \[", pyproject, re.MULTILINE) for one in extras)
    copied = {source.split("/")[0] for one in said("COPY") if not one.startswith("--") for source in one.split()[:-1]}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == {one.split("/")[0] for one in let_through}
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_the_image_is_not_roots_and_holds_no_secret() -> None:
    """A number for a user; no variable that is a key."""
    assert said("USER") == ["10001:10001"]
    assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD", " ".join(said("ENV") + said("ARG") + said("COPY")))
    assert all(variable in known_variables() for one in said("ENV") for variable in re.findall(r"CASCADE_\w+", one))
    for word in ("ENTRYPOINT", "CMD"):
        assert json.loads(said(word)[0])  # in exec form: SIGTERM reaches the program itself


def test_every_step_of_the_image_is_shell() -> None:
    """Those that make its user need root: their syntax alone is looked at here."""
    for step in said("RUN"):
        done = subprocess.run(["sh", "-n", "-c", step], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_compose_file_names_what_there_is() -> None:
    """Options, variables, policies; it listens on loopback, and waits for what it needs."""
    gateway = COMPOSE["services"]["gateway"]
    assert set(gateway["environment"]) <= known_variables()
    asked = parsed(gateway["command"])
    assert gateway["ports"] == [f"127.0.0.1:{asked['port']}:{asked['port']}"]
    source, target, _ = gateway["volumes"][0].split(":")
    (policy,) = asked["policy"]
    assert load_policy((DEPLOY / source).resolve() / Path(policy).relative_to(target)).name == "default"
    assert f"{said('VOLUME')[0]}" in {one.split(":")[1] for one in gateway["volumes"]}
    waits = {name for name, how in gateway["depends_on"].items() if how == {"condition": "service_healthy"}}
    assert waits == {name for name, one in COMPOSE["services"].items() if "healthcheck" in one} == {"redis", "postgres"}
    assert "--maxmemory-policy noeviction" in COMPOSE["services"]["redis"]["command"][2]
    assert (DEPLOY / gateway["build"]["context"] / gateway["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert int(gateway["stop_grace_period"].removesuffix("s")) > Limits().grace_s
    assert all("ports" not in COMPOSE["services"][name] for name in waits)


def test_every_secret_of_the_compose_file_is_in_its_example_and_empty() -> None:
    """And none is written into the file itself."""
    text = (DEPLOY / "compose.yaml").read_text()
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE))
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", text)) == wanted  # each is required
    assert example == dict.fromkeys(wanted, "")


def test_the_manifests_name_what_there_is() -> None:
    """Options, variables, ports, paths, secrets, policies; and the same user as the image's."""
    pod = manifest("Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    secret, policies = manifest("Secret"), manifest("ConfigMap")
    asked = parsed(container["args"])
    assert [one["containerPort"] for one in container["ports"]] == [asked["port"]]
    paths = document()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
    variables = {*secret["stringData"], *(one["name"] for one in container["env"])}
    assert variables <= known_variables()
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert pod["spec"]["volumes"][0]["configMap"]["name"] == policies["metadata"]["name"]
    (policy,) = asked["policy"]
    assert Path(policy).relative_to(container["volumeMounts"][0]["mountPath"]).name in policies["data"]
    user, group = (int(one) for one in said("USER")[0].split(":"))
    context = pod["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (user, group, True)
    assert {one["mountPath"] for one in container["volumeMounts"]} >= {"/tmp", said("VOLUME")[0]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    waits = 5 + Limits().grace_s  # preStop, then the running requests
    assert "time.sleep(5)" in container["lifecycle"]["preStop"]["exec"]["command"][2]
    assert pod["spec"]["terminationGracePeriodSeconds"] > waits


def test_the_manifests_fit_each_other(tmp_path: Path) -> None:
    """Selectors choose the pods; the policy in the config map loads, and is the shipped default but for its comments."""
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifest("Deployment")["spec"]["selector"]["matchLabels"],
        manifest("Service")["spec"]["selector"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * 4
    target = manifest("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", manifest("Deployment")["metadata"]["name"])
    namespace = manifest("Namespace")["metadata"]["name"]
    assert {one["metadata"].get("namespace", namespace) for one in MANIFESTS} == {namespace}
    path = tmp_path / "default.yaml"
    path.write_text(manifest("ConfigMap")["data"]["default.yaml"])
    assert load_policy(path).hash == load_policy("default").hash


def unit() -> dict[str, list[str]]:
    """The settings of the systemd unit."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "cascade.service").read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_what_there_is() -> None:
    """With options that there are; its key comes from a file of root's, and its home is the state directory."""
    settings = unit()
    shell = shlex.split(settings["ExecStart"][0])
    assert shell[:2] == ["/bin/sh", "-c"]
    _, _, command = shell[2].partition("exec /opt/cascade/bin/cascade ")
    assert parsed(command.split())["host"] == "127.0.0.1"
    assert set(re.findall(r"(CASCADE_\w+)=", " ".join(settings["Environment"]))) <= known_variables()
    assert f"CASCADE_HOME=/var/lib/{settings['StateDirectory'][0]} " in settings["Environment"][0]
    assert settings["LoadCredential"][0].partition(":")[0] in shell[2]
    assert int(settings["TimeoutStopSec"][0]) > Limits().grace_s
    assert (settings["DynamicUser"], settings["ProtectSystem"], settings["NoNewPrivileges"]) == (
        ["yes"],
        ["strict"],
        ["yes"],
    )


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """Every setting is known to it, and it finds the exposure low."""
    found = shutil.which("systemd-analyze") or absent("systemd-analyze", "systemd-analyze is not installed")
    path = tmp_path / "cascade.service"
    shutil.copy(DEPLOY / "cascade.service", path)
    done = subprocess.run([found, "verify", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    rated = subprocess.run(
        [found, "security", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert rated.returncode == 0, rated.stdout
