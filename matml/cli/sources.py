"""Which source files a command runs: its imports followed, without importing anything.

Snakemake reruns a stage after its code was edited where a hash of that code is a param of its rule.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matml.core.errors import MatmlError

ROOT = Path(__file__).parents[1]
"""Folder of the package matml."""
NEVER_RUN = re.compile(r'"""[\s\S]*?"""|^( *)if TYPE_CHECKING:\n(?:\1 +.*\n|\n)*', re.MULTILINE)
"""Long strings, which may show code, and what is imported for the type checker alone."""
IMPORT = re.compile(r"^ *(?:from ([\w.]+) )?import +(?:\(([^)]*)\)|(.*))", re.MULTILINE)


@dataclass(frozen=True)
class Module:
    """What is read of one Python file.

    Attributes
    ----------
    digest
        Hash of its source and of the data files that it names.
    uses
        Names of the modules that it imports anywhere, in its functions too.
    """

    text: str
    digest: bytes
    uses: tuple[str, ...]


def source_hash(*commands: str, root: Path = ROOT) -> str:
    """Return a hash of the sources that commands use, as they were when this process read them.

    Parameters
    ----------
    commands
        `module:function` of the command line's functions.

    Raises
    ------
    MatmlError
        Where there is no such function.
    """
    digest = hashlib.sha256()
    for command in commands:
        code, modules = command_sources(command, root)
        digest.update(code.encode())
        for name in modules:
            digest.update(f"\0{name}\0".encode() + _read(name, root).digest)
    return digest.hexdigest()[:16]


def command_sources(command: str, root: Path = ROOT) -> tuple[str, list[str]]:
    """Return the code of a command's function, and the names of all modules that it uses, sorted.

    Of the function's own file only what the function names counts, directly or by way of another
    definition, so that commands that share a file are told apart. Of every other module all counts,
    and what it imports; so do data files that a module names, in its folder or one above.
    """
    name, _, function = command.partition(":")
    definitions = _definitions(_read(name, root).text) if name in _files(root) else {}
    if function not in definitions:
        raise MatmlError(f"{command}: no such function of matml; give module:function")
    used, waiting = set[ast.stmt](), [definitions[function]]
    while waiting:
        if (node := waiting.pop()) not in used:
            used.add(node)
            # an argument may be called as a definition is
            arguments = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
            own = set(_names(node)) - arguments
            waiting += [definitions[each] for each in own if each in definitions]
    nodes = sorted(used, key=lambda node: node.lineno)
    lines = _read(name, root).text.splitlines()
    code = "\n".join(
        line for node in nodes for line in lines[_first_line(node) - 1 : node.end_lineno]
    )
    found, following = set[str](), _resolve(_imports(code), root)
    while following:
        if (module := following.pop()) not in found:
            found.add(module)
            following += _read(module, root).uses
    return code, sorted(found)


@cache
def _files(root: Path) -> dict[str, Path]:
    """Return the file of every module by its full name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _read(name: str, root: Path) -> Module:
    path = _files(root)[name]
    text = path.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode())
    for folder in path.parents[: len(path.relative_to(root).parts) - 1]:
        for place in _data_beside(folder):
            if f'"{place.name}"' in text:
                for file in sorted([place, *place.rglob("*")]):
                    digest.update(file.read_bytes() if file.is_file() else b"")
    imports = _imports(text)
    uses = _resolve(imports, root)
    if ("importlib", "import_module") in imports and path.name != "__init__.py":
        # what a module imports by name stands beside it; a package's face only passes names on
        package = name.rpartition(".")[0]
        uses += [other for other in _files(root) if other.rpartition(".")[0] == package]
    return Module(text, digest.digest(), tuple(dict.fromkeys(uses)))


@cache
def _data_beside(folder: Path) -> tuple[Path, ...]:
    """Return the files of a package's folder that are no code, and its folders without any."""
    return tuple(
        place
        for place in folder.iterdir()
        if place.name != "__pycache__"
        and (place.suffix != ".py" if place.is_file() else not any(place.glob("*.py")))
    )


def _resolve(imports: Iterable[tuple[str, str]], root: Path) -> list[str]:
    """Return the modules of the package that imports execute, with the packages they are in."""
    files, found = _files(root), []
    for module, name in imports:
        if module.split(".")[0] == root.name:
            parts = (f"{module}.{name}" if f"{module}.{name}" in files else module).split(".")
            found += [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return [module for module in found if module in files]


def _imports(text: str) -> list[tuple[str, str]]:
    """Return (module, name in it) of what code imports, at any depth; of `import x`, (x, "").

    By patterns, since to parse the whole package costs a second of every start of Snakemake.
    """
    found = []
    for module, several, one in IMPORT.findall(NEVER_RUN.sub("", text)):
        parts = re.sub("#.*", "", several or one).split(",")
        names = [part.split()[0] for part in parts if part.strip()]
        found += [(module, name) if module else (name, "") for name in names]
    return found


@cache
def _definitions(text: str) -> dict[str, ast.stmt]:
    """Return the statements at the top of a file by the names that they bind."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0]: node for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            stored = [each for target in targets for each in ast.walk(target)]
            found |= {each.id: node for each in stored if isinstance(each, ast.Name)}
    return found


def _names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a definition uses; the group that a command joins is not one of them."""
    for below in ast.iter_child_nodes(node):
        if isinstance(below, ast.Name):
            yield below.id
        elif not (isinstance(below, ast.Call) and getattr(below.func, "attr", "") == "command"):
            yield from _names(below)


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min(each.lineno for each in (node, *decorators))
