"""One line out of what a parser says: which option, what is wrong with it, what was probably meant.

jsonargparse nests its reasons, one level for each class of the configuration, and lists every type that an option could
have had. A person needs the innermost one and the path to it.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

_UNION = re.compile(
    r"(?:- .*? - )?Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (?P<reasons>.*)"
    r" Given value type: .*? Given value: (?P<value>.*)"
)
_NEXT_REASON = re.compile(r" - (?=Expected a |Problem with |Import path )")
_LINK = re.compile(r"Call to compute_fn of link '.*?' with args \(.*?\) failed: ")
_LEVEL = re.compile(
    r"^(?:Parser key \"(?P<key>[^\"]+)\":(?: |$)|Problem with given class_path '(?P<class_path>[^']+)':(?: |$))"
)
_REFUSED = re.compile(
    r"(?:Option '(?P<option>[^']+)' is not accepted"
    r"|(?:Subcommand|Group) '[^']+' does not accept option '(?P<member>[^']+)')"
)
_NOT_A_FILE = re.compile(r"- Expected a path but .*? either not accessible or invalid - ")
_NO_CLASS = re.compile(r"Expected a dot import path string: (?P<name>.*?)(?: - Expected a .*)?")
_NOT_IN_MODULE = re.compile(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'(?: - Expected a .*)?")
_WRONG_CLASS = re.compile(r"Import path (?P<path>\S+) does not correspond to a subclass of (?P<wanted>\w+)(?: - .*)?")
_UNRECOGNIZED = re.compile(r"unrecognized arguments: --(?P<option>[^ =]+).*")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest of the known words, nothing where none is close."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest_or_all(word: str, known: Iterable[str]) -> str:
    """``did_you_mean`` where something is close, else ``"; there are x, y"`` with all that is known."""
    known = list(known)
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"


def one_line(error: BaseException, options: Iterable[str] = ()) -> str:
    """The innermost reason of a parser's error, behind the option it concerns.

    Args:
        error: whatever stopped the command.
        options: the command's options, without dashes, among which a misspelt one is looked up.
    """
    text = _NOT_A_FILE.sub("", _LINK.sub("", " ".join(str(error).split())))
    keys: list[str] = []
    accepting = ""
    while True:
        if union := _UNION.fullmatch(text):
            text = _innermost(_split(union["reasons"]), union["value"])
        elif level := _LEVEL.match(text):
            keys += [level["key"]] if level["key"] else []
            accepting = level["class_path"] or accepting
            text = text[level.end() :]
        else:
            break
    if refused := _REFUSED.fullmatch(text) or _UNRECOGNIZED.fullmatch(text):
        found = refused.groupdict()
        word = found["option"] or found["member"]
        owner = f" of {accepting.rpartition('.')[2]}" if accepting else ""
        known = _parameters(accepting) if accepting else list(options)
        # Options below a class are not in the list, but their group is.
        group, groups = word.partition(".")[0], {name.partition(".")[0] for name in known}
        hint = did_you_mean(word, known) or ("" if group in groups else did_you_mean(group, groups))
        text = f"{word!r} is not an option{owner}{hint}"
    elif unknown := _NO_CLASS.fullmatch(text):
        text = f"{unknown['name']!r} is no class that is known by that name alone; give its module too, module.Class"
    elif unknown := _NOT_IN_MODULE.fullmatch(text):
        known = dir(importlib.import_module(unknown["module"]))
        text = f"{unknown['module']} has no {unknown['name']!r}{did_you_mean(unknown['name'], known)}"
    elif wrong := _WRONG_CLASS.fullmatch(text):
        text = f"{wrong['path']} is no {wrong['wanted']}"
    text = text or "names no class that can be used here"
    return f"{'.'.join(keys)}: {text}" if keys else text


def _split(reasons: str) -> list[str]:
    """The reasons of a union, each with those of the unions within it."""
    found = [""]
    for part in _NEXT_REASON.split(reasons):
        if found[-1].count(" Errors:") > found[-1].count(" Given value type:"):
            found[-1] += f" - {part}"
        else:
            found.append(part)
    return found[1:]


def _itself(reason: str) -> str:
    """A reason without those within it."""
    return reason.partition(" Subtypes:")[0]


def _innermost(reasons: list[str], value: str) -> str:
    """The one reason that speaks of what was given, or all that was expected."""
    reasons = [reason for reason in reasons if "NoneType" not in _itself(reason)]
    # Of several bases that a class could have had, those it has not say nothing where another reason is given.
    reasons = [reason for reason in reasons if "does not correspond to a subclass" not in _itself(reason)] or reasons
    for reason in reasons:
        if _NO_CLASS.fullmatch(reason):
            return reason
    expected = [reason.removeprefix("Expected a ") for reason in reasons if reason.startswith("Expected a ")]
    if len(expected) < len(reasons):
        return next(reason for reason in reasons if not reason.startswith("Expected a "))
    types = dict.fromkeys(reason.partition(". Got value: ")[0] for reason in expected)  # of a list and of what is in it
    return f"Expected {' or '.join(types)}. Got value: {value}"


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
