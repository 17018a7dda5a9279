"""No regular expression of ours can be made to take long: each is fed a megabyte of its own worst case.

Patterns are found in the source, so a new one is tested as soon as it is written.
"""

import ast
import importlib
import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

from projectors.query import query_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("domain", "application", "infrastructure", "projectors", "workers", "api", "eioku", "migrations")
METHODS = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
SIZE = 1_000_000
CPU_S = 120
"""Of the process that tries one package: all its patterns take some seconds, one that is not linear takes hours."""
EVERYWHERE = (" ", "a", "0", "A0.", "\n", "-", '"')
"""Pumped into every pattern, besides what its own repeats take in."""


# ---- finding them ------------------------------------------------------------------------------------------------


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def patterns_in(path: Path) -> Iterator[tuple[str, str | bytes, int, str]]:
    """(where, pattern, flags, method) of each pattern in a module.

    A pattern that has a name is read from the imported module, whatever expression it is made of; one that stands in a
    call or in a struct's constraint (`pattern=`) must be a literal.
    """
    text = path.read_text()
    if "\nimport re\n" not in text and "pattern=" not in text:
        return
    tree = ast.parse(text)
    named: dict[str, re.Pattern] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and _is_re(node.value, {"compile"}):
            for target in node.targets:
                assert isinstance(target, ast.Name)
                named[target.id] = getattr(importlib.import_module(module_of(path)), target.id)
    compiled = {id(node.value) for node in tree.body if isinstance(node, ast.Assign)}
    used: dict[str, set[str]] = {name: set() for name in named}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        for keyword in node.keywords:
            if keyword.arg == "pattern" and isinstance(keyword.value, ast.Constant):
                yield where, keyword.value.value, 0, "search"
        if _is_re(node, METHODS | {"compile"}) and id(node) not in compiled:
            assert isinstance(node.func, ast.Attribute)
            assert node.func.attr != "compile", f"{where}: compile it at the top of the module"
            literal = node.args[0]
            if isinstance(literal, ast.Call) and ast.unparse(literal.func) == "re.escape":
                continue  # plain text
            if ast.unparse(literal) == "query.pattern":
                continue  # made of a query: its worst case is below
            assert isinstance(literal, ast.Constant), f"{where}: give it a name at the top of the module"
            yield where, literal.value, 0, node.func.attr
        name, _, method = ast.unparse(node.func).rpartition(".")
        if name in used and method in METHODS:
            used[name].add(method)
    for name, pattern in named.items():
        for method in used[name] or {"search"}:  # used elsewhere: the hardest way to use it
            yield f"{path.relative_to(ROOT)}: {name}", pattern.pattern, pattern.flags, method


def _is_re(node: ast.AST, attributes: set[str]) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in attributes
    )


# ---- their worst cases -------------------------------------------------------------------------------------------


def attacks(pattern: str, flags: int = 0) -> Iterator[str]:
    """Texts that begin like a match, go on with what a repeat takes in, and then do not match."""
    pumps = dict.fromkeys(EVERYWHERE)
    starts = {"": None}
    for before, body in _repeats(parser.parse(pattern, flags), ""):
        starts[before] = None
        pumps[body] = None
        if before:
            pumps[before] = None  # many beginnings, none with an end
    for start in starts:
        for pump in pumps:
            if pump:
                yield start + pump * (SIZE // len(pump)) + "\x01"


def _repeats(parsed, before: str) -> Iterator[tuple[str, str]]:
    """(an example of what stands before, an example of what is repeated) for each repeat."""
    for op, value in parsed:
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            low, high, body = value
            if high > 1:
                yield before, _example(body)
            yield from _repeats(body, before)
            before += _example(body) * max(low, min(high, 1))
            continue
        if op is ops.SUBPATTERN:
            yield from _repeats(value[-1], before)
        elif op is ops.BRANCH:
            for branch in value[1]:
                yield from _repeats(branch, before)
        before += _example([(op, value)])


def _example(parsed) -> str:
    """A text that it matches; near enough where it looks around."""
    said = ""
    for op, value in parsed:
        if op is ops.LITERAL:
            said += chr(value)
        elif op is ops.NOT_LITERAL:
            said += "a" if value != ord("a") else "b"
        elif op is ops.ANY:
            said += "a"
        elif op is ops.IN:
            said += _member(value)
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            said += _example(value[2]) * max(1, value[0])
        elif op is ops.SUBPATTERN:
            said += _example(value[-1])
        elif op is ops.BRANCH:
            said += _example(value[1][0])
    return said


def _member(items) -> str:
    def takes(character: str) -> bool:
        body = [item for item in items if item[0] is not ops.NEGATE]
        return any(_has(item, character) for item in body) != (items[0][0] is ops.NEGATE)

    return next((c for c in " \ta0A.-_:é,;/\\<>{}[]()\"'=" if takes(c)), "a")


def _has(item, character: str) -> bool:
    op, value = item
    if op is ops.LITERAL:
        return ord(character) == value
    if op is ops.RANGE:
        return value[0] <= ord(character) <= value[1]
    return {
        ops.CATEGORY_DIGIT: character.isdigit(),
        ops.CATEGORY_NOT_DIGIT: not character.isdigit(),
        ops.CATEGORY_SPACE: character.isspace(),
        ops.CATEGORY_NOT_SPACE: not character.isspace(),
        ops.CATEGORY_WORD: character.isalnum() or character == "_",
        ops.CATEGORY_NOT_WORD: not (character.isalnum() or character == "_"),
    }[value]


# ---- trying them -------------------------------------------------------------------------------------------------


def tried(found: list[tuple[str, str, int, str, bool]]) -> None:
    """Feed each pattern its worst cases; says which one it is at, for when it never ends."""
    for where, pattern, flags, method, is_bytes in found:
        print(where, repr(pattern), method, flush=True)
        compiled = re.compile(pattern.encode("latin-1") if is_bytes else pattern, flags & ~(re.UNICODE if is_bytes else 0))
        for text in attacks(pattern, flags):
            subject = text.encode() if is_bytes else text
            if method in ("sub", "subn"):
                compiled.sub(b"" if is_bytes else "", subject)
            elif method == "finditer":
                list(compiled.finditer(subject))
            else:
                getattr(compiled, method)(subject)


def end_of(found: list[tuple[str, str, int, str, bool]], *, cpu_s: int = CPU_S) -> subprocess.CompletedProcess[str]:
    """In a process that the kernel ends when it has used up its share: how busy the machine is does not count."""
    return subprocess.run(
        [sys.executable, "-m", "tests.unit.test_patterns", str(cpu_s)],
        cwd=ROOT,
        input=json.dumps(found),
        capture_output=True,
        text=True,
        check=False,
    )


def found_in(path: Path) -> list[tuple[str, str, int, str, bool]]:
    return [
        (where, p.decode("latin-1") if isinstance(p, bytes) else p, int(flags), method, isinstance(p, bytes))
        for where, p, flags, method in patterns_in(path)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_megabyte_of_its_worst_case_does_not_stop_a_pattern(package):
    found = [pattern for path in sorted((ROOT / package).rglob("*.py")) for pattern in found_in(path)]
    ended = end_of(found)
    assert ended.returncode == 0, f"not linear: {ended.stdout.splitlines()[-1:]} {ended.stderr[-300:]}"


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"<v(?:\.[^\s>]+)*\s+([^>]+)>", "search"),  # each dot begins a class or goes on with one
        (r"\{\\[^}]*\}", "sub"),  # looks to the end from each brace
        (r"\[\s*([^\]]+?)\s*\]", "match"),  # blanks belong to three repeats
    ],
)
def test_a_pattern_that_is_not_linear_would_be_found(pattern, method):
    assert end_of([("here", pattern, 0, method, False)], cpu_s=2).returncode == -signal.SIGKILL


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
    tried(json.load(sys.stdin))


def test_the_longest_query_ends_in_the_longest_text():
    """Of texts of at most 100,000 characters and queries of at most 1,000: quadratic in neither."""
    for query, text in (("!" * 999 + "?", "!" * 100_000), ("e" * 999 + "é", "e" * 100_000), ("e" * 1_000, "e\u0301" * 50_000)):
        list(re.finditer(query_of("q", query).pattern, text))
