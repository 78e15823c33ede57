"""The code with one thing changed at a time: does any test of the room that it is in notice?

The other hunt (`mutants`) breaks the policy; this one breaks what stands behind it: a constant, a
comparison, an operand, an argument, the order of two statements, or a statement that is left out.
What people read is not changed. `rooms` says which tests have to notice.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

# ---------------------------------------------------------------------------- what is changed

MOST_SHOWN = 76  # characters of the code around a change that its name shows
OTHER: dict[type[ast.AST], type[Any]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.RShift: ast.LShift, ast.LShift: ast.RShift},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
SAID = {"say", "say_once", "log", "report", "refuse", "printable", "isinstance", "cast", "field"}
SPOKEN = {"say", "say_once", "log", "report"}  # statements that nothing else depends on
UNTOUCHED = (ast.Assert, ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Pass)
TYPES = {"annotation", "returns", "decorator_list", "bases", "pattern"}
UPDATES = {"set", "start", "stop", "act"}  # of a turn of the pair
SHORT = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Delete)


@dataclass(frozen=True)
class Change:
    """A file with one thing changed. what: its name, whatever is changed elsewhere in the file."""

    path: str
    line: int
    what: str
    text: str = field(repr=False)


def changes(path: str, scope: str = "", root: Path = ROOT) -> Iterator[Change]:
    """Every single change of a file, or of what has this name in it."""
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    for line, where, shown in each(tree, "", ()):
        if f"{where}.".startswith(f"{scope}." if scope else ""):
            name = " ".join(filter(None, (path, where))) + f": {shown}"
            seen[name] += 1
            number = f" ({seen[name]})" if seen[name] > 1 else ""
            yield Change(path, line, name + number, ast.unparse(tree))


def each(node: ast.AST, scope: str, around: tuple[ast.AST, ...]) -> Iterator[tuple[int, str, str]]:
    """Line, function and what is changed. The tree is changed while the caller looks at it."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        scope = f"{scope}.{node.name}".removeprefix(".")
    around = (*around, node) if isinstance(node, (ast.expr, *SHORT)) else around
    for holder, key, item in children(node):
        inside = () if isinstance(item, ast.stmt) else around
        for new in variants(item, node):
            shown = next(one for one in (*inside, item) if is_short(one) or one is item)
            old, holder[key] = ast.unparse(shown), new
            now = ast.unparse(new if shown is item else shown)
            yield item.lineno, scope, f"without {old}" if now == "pass" else apart(old, now)
            holder[key] = item
        if isinstance(holder, list) and is_order(holder[key : key + 2]):
            one, two = holder[key : key + 2]
            holder[key : key + 2] = two, one
            yield item.lineno, scope, f"{ast.unparse(one)} after {ast.unparse(two)}"
            holder[key : key + 2] = one, two
        yield from each(item, scope, inside)


def apart(old: str, new: str) -> str:
    """How they differ, with what is around it if that is long."""
    if max(len(old), len(new)) <= 2 * MOST_SHOWN:
        return f"{old} -> {new}"
    begin = max(0, alike(old, new) - MOST_SHOWN // 2)
    end = max(0, alike(old[::-1], new[::-1]) - MOST_SHOWN // 2)
    return f"{old[begin : len(old) - end]} -> {new[begin : len(new) - end]}"


def alike(one: str, other: str) -> int:
    """So many characters at the begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def children(node: ast.AST) -> Iterator[tuple[Any, Any, Any]]:
    """What a node is made of, each with the list or dict that holds it and its key there."""
    for name, value in ast.iter_fields(node):
        if name in TYPES or (name in ("args", "keywords") and name_of(node) in SAID):
            continue
        holder: Any = value if isinstance(value, list) else vars(node)
        for key in range(len(value)) if isinstance(value, list) else (name,):
            if isinstance(holder[key], ast.AST) and not is_untouched(holder[key]):
                yield holder, key, holder[key]


def is_untouched(node: ast.AST) -> bool:
    typing = isinstance(node, ast.If) and name_of(node.test) == "TYPE_CHECKING"
    text = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)
    said = isinstance(node, ast.Expr) and name_of(node.value) in SPOKEN
    said = said or (isinstance(node, ast.FunctionDef) and node.name.partition("_")[0] == "say")
    return typing or text or said or isinstance(node, UNTOUCHED) or is_alias(node)


def is_alias(node: ast.AST) -> bool:
    """A name for a type."""
    name = name_of(node.targets[0]) if isinstance(node, ast.Assign) else ""
    return name.lstrip("_")[:1].isupper() and not name.isupper()


def is_short(node: ast.AST) -> bool:
    return len(text := ast.unparse(node)) <= MOST_SHOWN and "\n" not in text


def is_order(statements: list[ast.AST]) -> bool:
    """Two statements whose order may matter: both do something, or one sets what the other uses."""
    if len(statements) < 2 or not all(isinstance(one, (*SHORT,)) for one in statements):
        return False
    if any(isinstance(one, (ast.Return, ast.AnnAssign)) or is_untouched(one) for one in statements):
        return False
    first, second = statements
    if any(isinstance(one, ast.Expr) for one in statements):
        return not all(is_update(one) for one in statements) or bool(words(first) & words(second))
    sets, others = ({ast.unparse(one) for one in targets(each)} for each in statements)
    return bool(sets & (words(second) | names(second) | others))


def is_update(statement: Any) -> bool:
    """A change of what is known, or an action: their order matters only if they share something."""
    return isinstance(statement, ast.Expr) and name_of(statement.value) in UPDATES


def words(statement: ast.AST) -> set[str]:
    """What it reads and changes: names with a dot, and what it sets."""
    nodes = list(ast.walk(statement))
    found = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    found |= {f".{node.arg}" for node in nodes if isinstance(node, ast.keyword)}
    own = (word for word in found if not word.startswith("turn.rules"))
    return {word for word in own if word.partition(".")[2] not in {*UPDATES, "now"}}


def names(statement: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def targets(statement: ast.AST) -> list[ast.expr]:
    return getattr(statement, "targets", None) or [getattr(statement, "target")]  # noqa: B009


def name_of(node: ast.AST) -> str:
    """The last word of a name, or of what is called."""
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def variants(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a part of the code."""
    match node:
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as number):
            for other in dict.fromkeys((number * 2, number * 0, number + 1)):
                if other != number:
                    yield ast.Constant(other)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in OTHER:
            yield changed(node, op=OTHER[type(node.op)]())
        case ast.BoolOp():
            yield changed(node, op=OTHER[type(node.op)]())
            yield from (changed(node, values=rest) for rest in shorter(node.values, 1))
        case ast.Compare():
            for at, op in enumerate(node.ops):
                ops = [*node.ops[:at], OTHER[type(op)](), *node.ops[at + 1 :]]
                yield changed(node, ops=ops)
        case ast.Call():
            yield from other_calls(node)
        case ast.Tuple() | ast.List() | ast.Set() if not is_record(parent, node):
            yield from (changed(node, elts=rest) for rest in shorter(node.elts, 1))
        case ast.Expr() | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Assign() if not isinstance(node.targets[0], (ast.Name, ast.Tuple)):
            yield ast.Pass()
    condition = getattr(parent, "test", None) is node
    if condition and isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
        yield ast.UnaryOp(ast.Not(), node)


def other_calls(node: ast.Call) -> Iterator[ast.AST]:
    """One of its arguments is left out, or another function is called."""
    if name_of(node) in SAID:
        return
    if isinstance(node.func, ast.Name) and node.func.id in TWINS:
        yield changed(node, func=ast.Name(TWINS[node.func.id]))
    yield from (changed(node, keywords=rest) for rest in shorter(node.keywords, 0))
    alike = all(isinstance(one, ast.Attribute) for one in node.args)
    for at, rest in enumerate(shorter(node.args, 1)):
        if (alike or at == len(rest)) and name_of(node) not in TWINS:
            yield changed(node, args=rest)


def is_record(parent: ast.AST, node: Any) -> bool:
    """Its length is a matter of form."""
    if isinstance(getattr(node, "ctx", None), ast.Store):
        return True
    if isinstance(parent, (ast.Return, ast.Yield, ast.Subscript)):
        return True
    return isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Tuple)


def shorter(items: list[Any], least: int) -> Iterator[list[Any]]:
    """The list without one of it, if so many are left."""
    if len(items) > least:
        yield from ([*items[:at], *items[at + 1 :]] for at in range(len(items)))


def changed(node: Any, **fields: object) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
