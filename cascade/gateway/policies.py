"""The policies that a gateway serves. A changed file is loaded anew; the one before it stays while the new one does not load."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.budgets.gate import bound_of
from cascade.core.context import build_summary_prompt, summarisers
from cascade.core.errors import CascadeError, ConfigurationError
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.text.suggestions import did_you_mean
from cascade.core.triage import build_prompt
from cascade.engine import AsyncCascade
from cascade.gateway.settings import VIRTUAL, Route
from cascade.logs import log_event
from cascade.policy.loading import find_policy, load_policy
from cascade.policy.pricing import rates_of

__all__ = ["Loaded", "MakeDriver", "Policies", "ServedPolicy", "UnknownModel", "check_forwarded"]

MakeDriver = Callable[[Policy], AsyncCascade]


class UnknownModel(LookupError):
    """A `claude-cascade-*` model that is not served; the message names those that are."""


@dataclass(slots=True)
class Loaded:
    """A policy as it was loaded, and its driver, which is closed once nothing uses it."""

    policy: Policy
    driver: AsyncCascade
    uses: int = 0
    is_replaced: bool = False

    def most_it_may_cost(self, request: Request) -> int:
        """The most that a climb with this request may cost, in nano-USD: every rung, with all its attempts and samples.

        Raises RequestError if a rung cannot take the request.
        """
        policy, total = self.policy, 0
        voters = [rates_of(rung) for rung in policy.panel]
        for index, rung in enumerate(policy.ladder):
            prompt = build_prompt(policy, index, request)
            samples = [rung.samples, *(task.samples.get(rung.rung) for task in policy.tasks)]
            calls = max(1 if own is None else 2 * own.max for own in samples)  # at most one judgement for each sample
            rates = (rates_of(rung), *(voters if calls > 1 else ()))
            total += calls * max(bound_of(one, prompt, policy.retry.attempts) for one in rates)
        for settings, rung in summarisers(policy):
            prompt = build_summary_prompt(rung, request, settings)
            total += bound_of(rates_of(rung), prompt, policy.retry.attempts)
        return total

    def enter(self) -> AsyncCascade:
        """The driver, which stays open until `leave`."""
        self.uses += 1
        return self.driver

    async def leave(self) -> None:
        """A request that used the driver has ended."""
        self.uses -= 1
        if self.is_replaced and not self.uses:
            await self.driver.aclose()


@dataclass(slots=True)
class ServedPolicy:
    """A policy by its name. `problem`: why its file, as it is now, is not the one in force; None if it is."""

    path: Path
    loaded: Loaded
    stamp: tuple[int, int, int]
    digest: str
    problem: str | None = None
    reloads: int = field(default=0)


def check_forwarded(policy: Policy) -> None:
    """Raise ConfigurationError if callers' credentials, which go with every call of a climb, would reach another endpoint."""
    for rung in (*policy.ladder, *policy.panel):
        if rung.base_url is not None or rung.api_key_env is not None:
            raise ConfigurationError(
                f"--auth forward: rung {rung.rung} of policy {policy.name} has an endpoint or a key of its own, and would get the"
                " callers' keys (serve this policy with --auth key)"
            )


class Policies:
    """The policies by name. `make` makes a policy's driver. Used on one event loop."""

    def __init__(self, sources: Sequence[str], routes: Sequence[Route], make: MakeDriver) -> None:
        self._make = make
        self._routes = tuple(routes)
        self.served: dict[str, ServedPolicy] = {}
        for source in sources:
            path = find_policy(source)
            stamp, digest = _stamp(path), _digest(path)  # before it is read: a later edit is then seen as a change
            policy = load_policy(path)
            if policy.name in self.served:
                raise ConfigurationError(_named_alike(source, path, policy.name, self.served[policy.name].path))
            self.served[policy.name] = ServedPolicy(path, Loaded(policy, make(policy)), stamp, digest)
        for route in self._routes:
            if route.policy not in self.served:
                hint = f"{did_you_mean(route.policy, tuple(self.served))}it serves {', '.join(self.served)}"
                raise ConfigurationError(f"--route {route.pattern}={route.policy}: no such policy is served ({hint})")

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that climb."""
        return tuple(VIRTUAL + name for name in self.served)

    def of_model(self, model: str) -> ServedPolicy | None:
        """The policy that requests for a model climb by; None: it is a real model's. Raises UnknownModel."""
        if model.startswith(VIRTUAL):
            name = model[len(VIRTUAL) :]
            found = self.served.get(name)
            if found is None:
                hint = did_you_mean(name, tuple(self.served))
                raise UnknownModel(
                    f"model: there is no policy {name[:80]!r} here ({hint}it serves {', '.join(self.models)})"
                )
            return found
        for route in self._routes:
            if route.matches(model):
                return self.served[route.policy]
        return None

    def of_name(self, name: str) -> ServedPolicy | None:
        """A policy by its name."""
        return self.served.get(name)

    async def prepare(self) -> None:
        """Make the clients of all rungs. Raises MissingKey if one has no credentials."""
        for one in self.served.values():
            await one.loaded.driver.prepare()

    async def watch(self, every_s: float) -> None:
        """Look for changed files, for ever. Nothing that goes wrong ends it."""
        while True:
            await asyncio.sleep(every_s)
            await self.reload_changed()

    async def reload_changed(self) -> None:
        """Load every file that has changed since it was last looked at."""
        for name, one in self.served.items():
            stamp = _stamp(one.path)
            if stamp == one.stamp:
                continue
            one.stamp = stamp
            await self._reload(name, one)

    async def _reload(self, name: str, one: ServedPolicy) -> None:
        digest = await asyncio.to_thread(_digest, one.path)
        if digest == one.digest and one.problem is None:
            return  # written anew, with the same content
        one.digest = digest
        try:
            policy = await asyncio.to_thread(load_policy, one.path)
            if policy.name != name:
                raise ConfigurationError(
                    f"{one.path}: its name is {policy.name} now, and it is served as {name} (start the gateway again for that)"
                )
            if policy.hash == one.loaded.policy.hash:
                one.problem = None
                return
            driver = await asyncio.to_thread(self._make, policy)  # its ledger may be slow
            await driver.prepare()
        except CascadeError as problem:
            one.problem = str(problem)
            hint = "the policy before it stays in force"
            log_event("error", "policy_not_reloaded", policy=name, problem=str(problem), hint=hint)
            return
        before, one.loaded, one.problem = one.loaded, Loaded(policy, driver), None
        one.reloads += 1
        log_event("info", "policy_reloaded", policy=name, hash=policy.hash[:12], before=before.policy.hash[:12])
        before.is_replaced = True
        if not before.uses:
            await before.driver.aclose()

    async def close(self) -> None:
        """Close all drivers."""
        for one in self.served.values():
            await one.loaded.driver.aclose()


def _named_alike(source: str, path: Path, name: str, other: Path) -> str:
    if path.resolve() == other.resolve():
        return f"--policy {source}: this file is given twice (leave one out)"
    return f"--policy {source}: {other} is called {name}, too (rename one of them)"


def _stamp(path: Path) -> tuple[int, int, int]:
    """A value that changes when the file does; zeros if it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_ino, found.st_size


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as problem:
        return f"unreadable: {problem.strerror or type(problem).__name__}"
