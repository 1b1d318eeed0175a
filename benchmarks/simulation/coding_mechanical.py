"""Texts of the coding scenario's mechanical work: extraction, reformatting, lint, renaming, translation.

A wrong reply is one a hurried reader makes: a line too few, a string for a number, the first place only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .coding_voice import COLLECTIONS, MODULES, NOUNS, POLITE, VERBS, name, names, spread
from .replies import Ticket

if TYPE_CHECKING:
    from .draws import Draws

__all__ = ["ask_extraction", "ask_lint", "ask_reformat", "ask_rename", "ask_translate"]


def _order(draws: Draws, order: str) -> str:
    polite = draws.pick(POLITE)
    return polite + order if polite else order[0].upper() + order[1:]


def ask_extraction(draws: Draws) -> Ticket:
    """The names of something in a piece of code."""
    count = draws.between(3, 5)
    functions, classes = names(draws, count), [noun.capitalize() for noun in spread(draws, NOUNS, 2)]
    parts = [f"def {function}({draws.pick(COLLECTIONS)}):\n    ..." for function in functions]
    parts.insert(1, f"class {classes[0]}:\n    ...")
    parts.append(f"class {classes[1]}({classes[0]}):\n    ...")
    code = "\n\n".join(parts)
    what, true, other = draws.pick(
        (
            ("all function names", functions, classes),
            ("the class names", classes, functions[:2]),
        )
    )
    ask = draws.pick(
        (
            f"extract {what} from this module, comma-separated and in order:",
            f"collect {what} from the file below, comma-separated, in the order they appear:",
            f"pull out {what} from {draws.pick(MODULES)}.py, one line, comma-separated:",
        )
    )
    wrong = (", ".join(true[:-1]), ", ".join([*true, other[0]]), ", ".join(reversed(true)))
    return Ticket(f"{_order(draws, ask)}\n\n{code}", ", ".join(true), wrong)


def ask_reformat(draws: Draws) -> Ticket:
    """A few settings, into JSON on one line."""
    keys = spread(draws, NOUNS, draws.between(3, 4))
    values: dict[str, int | bool | str] = {}
    for place, key in enumerate(keys):
        values[key] = (
            draws.between(1, 999) if place == 0 else draws.pick((True, False)) if place == 1 else draws.pick(VERBS)
        )
    told = {key: str(value).lower() for key, value in values.items()}
    source = draws.pick(
        (
            "\n".join(f"{key} = {value}" for key, value in told.items()),
            "\n".join(f"{key}: {value}" for key, value in told.items()),
            "&".join(f"{key}={value}" for key, value in told.items()),
        )
    )
    ask = draws.pick(
        (
            "convert these settings to JSON, on one line, keys in the same order:",
            "reformat these settings as one line of JSON, same order:",
            "format the following settings as JSON on one line, order kept:",
        )
    )
    wrong = (
        json.dumps(told),
        json.dumps({key: values[key] for key in keys[:-1]}),
        json.dumps({key: values[key] for key in sorted(keys, reverse=True)} | {keys[0]: told[keys[0]]}),
        str(values),
    )
    return Ticket(f"{_order(draws, ask)}\n\n{source}", json.dumps(values), wrong)


def ask_lint(draws: Draws) -> Ticket:
    """One finding of a linter, and the code without it."""
    return draws.pick((_unused_variable, _unused_import, _comparison))(draws)


def _unused_variable(draws: Draws) -> Ticket:
    function, things, unused = name(draws), draws.pick(COLLECTIONS), draws.pick(NOUNS)
    head, body = f"def {function}({things}):", f"    return [one for one in {things} if one.{draws.pick(NOUNS)}]"
    code = f"{head}\n    {unused} = len({things})\n{body}"
    ask = draws.pick(
        (
            f"fix the lint error in this function (F841: local variable `{unused}` is never used):",
            f"fix this ruff finding, F841 `{unused}` is assigned but never used:",
        )
    )
    wrong = (
        f"{head}\n    _{unused} = len({things})\n{body}",
        f"{head}\n    {unused} = len({things})  # noqa: F841\n{body}",
        f"{head}\n    len({things})\n{body}",
    )
    return Ticket(f"{_order(draws, ask)}\n\n{code}", f"{head}\n{body}", wrong)


def _unused_import(draws: Draws) -> Ticket:
    used, *unused = spread(draws, MODULES, 3)
    function, thing = name(draws), draws.pick(NOUNS)
    lines = draws.shuffled([used, *unused])
    body = f"\n\ndef {function}({thing}):\n    return {used}.{draws.pick(VERBS)}({thing})"
    code = "\n".join(f"import {module}" for module in lines) + "\n" + body
    wrong = (
        code,
        "\n".join(f"import {module}" for module in lines if module != unused[0]) + "\n" + body,
        body.lstrip("\n"),
    )
    ask = draws.pick(("remove the unused imports from this file:", "remove all imports that nothing uses here:"))
    return Ticket(f"{_order(draws, ask)}\n\n{code}", f"import {used}\n{body}", wrong)


def _comparison(draws: Draws) -> Ticket:
    function, thing, attribute = name(draws), draws.pick(NOUNS), draws.pick(VERBS)
    code = f"def {function}({thing}):\n    if {thing}.{attribute} == None:\n        return []\n    return {thing}.{attribute}"
    ask = draws.pick(
        (
            "lint this function; it breaks E711, comparison to None:",
            "fix the lint warning E711 (comparison to None) in this code:",
        )
    )
    wrong = (
        code.replace(f"{thing}.{attribute} == None", f"not {thing}.{attribute}"),
        code.replace(" == None", " is not None"),
        code.replace("== None", "== null"),
    )
    return Ticket(f"{_order(draws, ask)}\n\n{code}", code.replace("== None", "is None"), wrong)


def ask_rename(draws: Draws) -> Ticket:
    """One name in one function; a longer name and a text that contain it must stay."""
    (old, new), function, things = spread(draws, NOUNS, 2), name(draws), draws.pick(COLLECTIONS)
    code = (
        f"def {function}({things}, {old}):\n"
        f"    {old}_limit = {draws.between(2, 90)}\n"
        f"    found = [one for one in {things} if one > {old}]\n"
        f'    print("{old} checked")\n'
        f"    return found[:{old}_limit] or [{old}]"
    )
    right = code.replace(f", {old})", f", {new})").replace(f"> {old}]", f"> {new}]").replace(f"[{old}]", f"[{new}]")
    wrong = (
        code.replace(old, new),
        code.replace(f", {old})", f", {new})").replace(f"> {old}]", f"> {new}]"),
        right.replace(f'"{old} checked"', f'"{new} checked"'),
    )
    ask = draws.pick(
        (
            f"rename the parameter `{old}` to `{new}`, nothing else:",
            f"rename only the argument {old} to {new} in this function:",
            f"rename `{old}` to `{new}` here, leave other names and texts alone:",
        )
    )
    return Ticket(f"{_order(draws, ask)}\n\n{code}", right, wrong)


_SENTENCES = (
    (
        "Returns the first {x}, or None if there is none.",
        {
            "German": "Gibt das erste Element von {x} zurück, oder None, wenn es keines gibt.",
            "French": "Renvoie le premier élément de {x}, ou None s'il n'y en a pas.",
            "Spanish": "Devuelve el primer elemento de {x}, o None si no hay ninguno.",
        },
    ),
    (
        "Writes {x} to disk and keeps the old file.",
        {
            "German": "Schreibt {x} auf die Platte und behält die alte Datei.",
            "French": "Écrit {x} sur le disque et conserve l'ancien fichier.",
            "Spanish": "Escribe {x} en el disco y conserva el archivo anterior.",
        },
    ),
    (
        "Raises ValueError unless {x} is sorted.",
        {
            "German": "Löst ValueError aus, wenn {x} nicht sortiert ist.",
            "French": "Lève ValueError si {x} n'est pas trié.",
            "Spanish": "Lanza ValueError si {x} no está ordenado.",
        },
    ),
    (
        "Waits until {x} is empty, at most ten seconds.",
        {
            "German": "Wartet, bis {x} leer ist, höchstens zehn Sekunden.",
            "French": "Attend que {x} soit vide, dix secondes au plus.",
            "Spanish": "Espera a que {x} esté vacío, diez segundos como máximo.",
        },
    ),
)


def ask_translate(draws: Draws) -> Ticket:
    """A line of a docstring, into a language that people speak; names in backquotes stay."""
    english, translations = draws.pick(_SENTENCES)
    language = draws.pick(tuple(translations))
    kept = f"`{draws.pick(NOUNS)}_{draws.pick(COLLECTIONS)}`"
    other = draws.pick([sentences for sentence, sentences in _SENTENCES if sentence != english])
    ask = draws.pick(
        (
            f"translate this docstring to {language}, keep names in backquotes:",
            f"translate the comment below into {language}; what is in backquotes stays:",
        )
    )
    wrong = (
        translations[language].format(x=kept.replace("_", " ")),
        other[language].format(x=kept),
        english.format(x=kept),
    )
    return Ticket(f"{_order(draws, ask)}\n\n{english.format(x=kept)}", translations[language].format(x=kept), wrong)
