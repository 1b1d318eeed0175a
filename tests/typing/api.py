"""What a type checker makes of the public functions. Never run: `make check` has pyright read it."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict, assert_type

from pydantic import BaseModel, Field

import cascade
from cascade import Answer, AskOptions, AsyncCascade, Cascade, DelegationOptions


class Order(BaseModel):
    """A pydantic class."""

    number: str


@dataclass
class Point:
    """A dataclass."""

    x: int


class Row(TypedDict):
    """A typed dictionary."""

    x: int


class Colour(Enum):
    """An enum."""

    RED = "red"


def plain(driver: Cascade) -> None:
    """Without a model there are no data; the text is a text, with no check for None forced on anybody."""
    answer = cascade.ask("hi")
    assert_type(answer, Answer[None])
    assert_type(answer.data, None)
    assert_type(answer.text, str | Any)
    assert_type(answer.text.upper(), str | Any)
    assert_type(driver.ask("hi", response_model=None), Answer[None])
    if answer.text is None:
        assert_type(answer.abstained is not None, bool)


async def outcomes(driver: Cascade, async_driver: AsyncCascade) -> None:
    """Right or wrong, or something between."""
    answer = cascade.ask("hi")
    assert_type(cascade.report_outcome(answer.request_id, True, note="fine", ledger="off"), None)
    assert_type(driver.report_outcome(answer.request_id, 0.5), None)
    assert_type(await async_driver.report_outcome(answer.request_id, False, note=None), None)
    cascade.report_outcome(answer.request_id, "right")  # pyright: ignore[reportArgumentType]


def modelled(driver: Cascade) -> None:
    """The data are the model's."""
    assert_type(cascade.ask("hi", response_model=Order), Answer[Order])
    assert_type(cascade.ask("hi", response_model=Order).data, Order | None)
    assert_type(driver.ask("hi", response_model=Order), Answer[Order])
    assert_type(cascade.ask("hi", response_model=Point), Answer[Point])
    assert_type(cascade.ask("hi", response_model=Row), Answer[Row])
    assert_type(cascade.ask("hi", response_model=Colour), Answer[Colour])
    assert_type(cascade.ask("hi", response_model=list[str]), Answer[list[str]])
    assert_type(cascade.ask("hi", response_model=dict[str, int]), Answer[dict[str, int]])


def special_forms(model: type[Order] | None, given: object) -> None:
    """What is no class to a type checker is taken, and its data are Any; a model that may be None is either."""
    assert_type(cascade.ask("hi", response_model=Literal["a", "b"]), Answer[Any])
    assert_type(cascade.ask("hi", response_model=Order | Point), Answer[Any])
    assert_type(cascade.ask("hi", response_model=Annotated[int, Field(ge=0)]), Answer[Any])
    assert_type(cascade.ask("hi", response_model=given), Answer[Any])
    assert_type(cascade.ask("hi", response_model=model).data, Order | None)


async def awaited(driver: AsyncCascade) -> None:
    """The same, awaited."""
    assert_type(await cascade.aask("hi"), Answer[None])
    assert_type(await cascade.aask("hi", response_model=Order), Answer[Order])
    assert_type(await driver.ask("hi"), Answer[None])
    assert_type(await driver.ask("hi", response_model=Order), Answer[Order])
    assert_type(await driver.ask("hi", response_model=Order | Point), Answer[Any])


def arguments(driver: Cascade, options: AskOptions) -> None:
    """All of them by name; they may be handed on; what is not one of them, or of another type, is an error."""
    cascade.ask(
        [{"role": "user", "content": "hi"}],
        system=[{"type": "text", "text": "be kind"}],
        task="refund",
        policy="support",
        checks=[lambda text: text != ""],
        flags=["vip"],
        metadata={"user_id": "u-1"},
        max_tokens=10,
        deadline_s=1.5,
    )
    assert_type(driver.ask("hi", response_model=Order, **options), Answer[Order])
    driver.ask("hi", task=None, checks=None, flags=None, metadata=None, max_tokens=None, deadline_s=None)
    cascade.ask()  # pyright: ignore[reportCallIssue]
    cascade.ask("hi", temperature=0.5)  # pyright: ignore[reportCallIssue]
    driver.ask("hi", policy="support")  # pyright: ignore[reportCallIssue]
    driver.ask("hi", max_tokens="10")  # pyright: ignore[reportArgumentType]


def delegated(driver: Cascade, options: DelegationOptions) -> None:
    """Texts have no data, a label is one, and what is extracted is the caller's type; a JSON Schema's value is any."""
    assert_type(cascade.summarize("text", 50, driver=driver), Answer[None])
    assert_type(cascade.rewrite("text", 50, "lamp", policy="support", max_tokens=10), Answer[None])
    assert_type(cascade.rewrite("text", 50, keyword=None, **options), Answer[None])
    assert_type(cascade.translate("text", "German", source=None, task="mail"), Answer[None])
    assert_type(cascade.classify("text", ["a", "b"], metadata={"user_id": "u-1"}), Answer[str])
    assert_type(cascade.extract("text", Order), Answer[Order])
    assert_type(cascade.extract("text", Order, **options).data, Order | None)
    assert_type(cascade.extract("text", list[int], cache=True), Answer[list[int]])
    assert_type(cascade.extract("text", Order | Point), Answer[Any])
    assert_type(cascade.extract("text", {"type": "string"}), Answer[Any])
    cascade.summarize("text", 50, system="mine")  # pyright: ignore[reportCallIssue]
    cascade.summarize("text", "50")  # pyright: ignore[reportArgumentType]
    cascade.classify("text")  # pyright: ignore[reportCallIssue]


async def delegated_awaited(driver: AsyncCascade, blocking: Cascade) -> None:
    """The same, awaited, on a driver for asyncio."""
    assert_type(await cascade.asummarize("text", 50, driver=driver), Answer[None])
    assert_type(await cascade.arewrite("text", 50, "lamp"), Answer[None])
    assert_type(await cascade.atranslate("text", "German", source="English"), Answer[None])
    assert_type(await cascade.aclassify("text", ["a", "b"]), Answer[str])
    assert_type(await cascade.aextract("text", Order, driver=driver), Answer[Order])
    assert_type(await cascade.aextract("text", {"type": "string"}), Answer[Any])
    await cascade.asummarize("text", 50, driver=blocking)  # pyright: ignore[reportArgumentType]


def handed_on(answer: Answer[Order]) -> None:
    """An answer is one of any data, and `Answer` alone is one of data unknown; functions can be passed around."""

    def of_any(answer: Answer[object]) -> object:
        return answer.data

    def bare(answer: Answer) -> str:
        assert_type(answer.data, Any | None)
        return str(answer)

    of_any(answer)
    bare(answer)
    sync: Callable[[str], Answer[None]] = cascade.ask
    later: Callable[[str], Awaitable[Answer[None]]] = cascade.aask
    assert sync is not later
