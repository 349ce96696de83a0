"""What Ray says of a job or of the whole cluster, as the end of a sentence."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from nullworker.wire.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A message quotes at most so much of what Ray says.
CHARACTERS_MAX = 240
_DEMAND = re.compile(r"^\s*(\{.*?\}): (\d+)\+? pending tasks/actors", re.MULTILINE)
_USAGE = re.compile(r"^\s*([0-9.]+)/([0-9.]+) (\S+)(?: \(.*\))?$", re.MULTILINE)
_EXIT = re.compile(r"failed with exit code (-?\d+)")
_NODE = re.compile(r"node was terminated (?:un)?expectedly: (.+)")
#: What a job's end is called, where Ray says nothing of use.
_PLAIN = {"SUCCEEDED": "exit code 0", "STOPPED": "its job was stopped, and not by this engine"}


def last_words(text: str) -> str:
    """The last line of what Ray says, which is often a traceback of several pages; without a full stop."""
    lines = [line for line in (one_line(each) for each in text.splitlines()) if line.strip(". ")]
    line = re.sub(r"^(?:\w+\.)*\w*(?:Error|Exception): ", "", lines[-1]) if lines else "it does not say why"
    return (line if len(line) <= CHARACTERS_MAX else line[:CHARACTERS_MAX] + "…").rstrip(". ")


def how_it_ended(status: str, message: str, secret: str = "") -> str:
    """How a job ended.

    Args:
        status: Ray's word for it.
        message: what Ray says of it.
        secret: replaced by ``***``.
    """
    message = message.replace(secret or "\0", "***")
    exited = _EXIT.search(message)
    if exited is not None:
        code = int(exited[1])
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        _, _, log = message.partition("chars):\n")
        return f"{how}; its log ends: {last_words(log)}" if log.strip() else f"{how}; it logged nothing"
    if status in _PLAIN:
        return _PLAIN[status]
    if "node has died" in message:
        why = _NODE.search(message)
        return f"its node has died ({one_line(why[1])[:CHARACTERS_MAX]})" if why else "its node has died"
    return f"Ray says: {last_words(message)}"


def report_of(status: str) -> str:
    """The line that tells one report of Ray's from the next, out of what ``ray status`` prints; "": there is none."""
    return status.partition("\n")[0].strip()


def demands(status: str) -> dict[str, int]:
    """What Ray has no place for, out of what ``ray status`` prints: how much of each kind, as `shape_of` calls it."""
    found: dict[str, int] = {}
    for text, count in _DEMAND.findall(status):
        try:
            read = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            continue
        if isinstance(read, dict):
            shape = shape_of({str(name): float(n) for name, n in read.items() if isinstance(n, (int, float))})
            found[shape] = found.get(shape, 0) + int(count)
    return found


def shape_of(wanted: Mapping[str, float]) -> str:
    """What a job asks for, as one word. Memory is left out: Ray prints it rounded.

    Args:
        wanted: resources by name.
    """
    return ",".join(f"{name}:{round(n, 4):g}" for name, n in sorted(wanted.items()) if n and name != "memory")


def what_is_short(wanted: Mapping[str, float], labels: Mapping[str, str], status: str) -> str:
    """Why Ray has no place for a worker: what is wanted, and how much of it is in use.

    Args:
        wanted: resources by name.
        labels: that the node must have.
        status: what ``ray status`` prints.
    """
    asked = [f"{n:g} {name}" for name, n in wanted.items() if n and name != "memory"]
    asked += [f"{wanted['memory'] / 1e9:g} GB"] if wanted.get("memory") else []
    asked += [f"{name}={value}" for name, value in labels.items()]
    usage = {name: f"{float(used):g} of {float(all_):g} {name}" for used, all_, name in _USAGE.findall(status)}
    has = [usage.get(name, f"no {name} in the cluster") for name, n in wanted.items() if n and name != "memory"]
    return f"it wants {', '.join(asked) or 'nothing'}; in use: {', '.join(has) or 'all'}"
