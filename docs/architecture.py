"""Draw the house: which room imports which, read from the imports themselves.

    python docs/architecture.py OUT

writes `house.svg` (the folders of matml, one row a floor) and one drawing of each larger room into
the folder OUT. `problems` is what a test holds the imports against.
"""

import ast
import html
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS_DRAWN = ("structures", "properties", "kinetics", "screening")

# floors of the house, from the ground: a room imports rooms of lower floors only
FLOORS = (
    ("core",),
    ("bayes", "gp", "figures"),
    ("meta",),
    ("structures",),
    ("potentials",),
    ("properties", "kinetics"),
    ("screening", "federated"),
    ("report", "studies", "app"),
    ("config",),
    ("cli",),
)

# where the boxes of the house stand from left to right, so that few arrows cross
COLUMNS = {
    "cli": 1.5,
    "config": 1.5,
    "report": 2,
    "studies": 3,
    "app": 1,
    "screening": 2,
    "federated": 0.5,
    "kinetics": 0.5,
    "properties": 2,
    "potentials": 2.5,
    "structures": 3,
    "meta": 1.5,
    "bayes": 0,
    "figures": 1,
    "gp": 2,
    "core": 3,
}

MOST_MODULES = 12
"""Side by side in a folder."""

Graph = dict[str, set[str]]

BOX_WIDTH, GAP, ROW_GAP, LINE, MARGIN = 190, 26, 64, 17, 24
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1d2730; text-anchor: middle; }
.name { font-weight: 600; font-size: 14px; }
rect { fill: #eef3f7; stroke: #4a6a85; rx: 6px; }
path { fill: none; stroke: #4a6a85; stroke-width: 1.2; marker-end: url(#tip); opacity: .75; }
"""


def module_names(root: Path = ROOT) -> dict[str, Path]:
    """Return every module of matml by its dotted name; a package by its `__init__`."""
    files = {}
    for path in sorted((root / "matml").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    return files


def imports(files: dict[str, Path]) -> Graph:
    """Return which modules each module imports anywhere in its text, of matml only."""
    graph: Graph = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "matml":
                module = str(node.module)
                wanted = [f"{module}.{alias.name}" for alias in node.names]
                wanted = [item if item in files else module for item in wanted]
            elif isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names if alias.name in files]
            else:
                continue
            # the package itself holds its version and its place only
            graph[name].update(item for item in wanted if item not in (name, "matml"))
    return graph


def children(package: str, files: dict[str, Path]) -> list[str]:
    """Return the modules and packages that stand directly in a package."""
    depth = package.count(".") + 1
    inside = [name for name in files if name.startswith(f"{package}.")]
    return sorted({".".join(name.split(".")[: depth + 1]) for name in inside})


def between(package: str, graph: Graph) -> Graph:
    """Return which children of a package import which others of its children."""
    depth = package.count(".") + 2
    rooms: Graph = {}
    for name, wanted in graph.items():
        if not name.startswith(f"{package}."):
            continue
        room = ".".join(name.split(".")[:depth])
        found = {".".join(item.split(".")[:depth]) for item in wanted}
        rooms.setdefault(room, set()).update(
            item for item in found if item.startswith(f"{package}.") and item != room
        )
    return rooms


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach one another (Tarjan's strongly connected parts)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(group := stack[at:]) > 1:
                found.append(sorted(group))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floor_of(room: str) -> int:
    """Return the floor of a folder of matml, counted from the ground."""
    return next(floor for floor, names in enumerate(FLOORS) if room in names)


def problems(root: Path = ROOT) -> list[str]:
    """Return what is against the rules of the house, a line each; imports in functions count.

    Rooms import rooms of lower floors only, in no folder do its modules and folders import one
    another in a circle, and a folder holds at most `MOST_MODULES` modules.
    """
    files = module_names(root)
    graph = imports(files)
    found = []
    for name, wanted in graph.items():
        room = name.split(".")[1] if "." in name else ""
        for other in sorted(wanted if room else ()):
            below = other.split(".")[1]
            if room != below and floor_of(room) <= floor_of(below):
                found.append(f"{name} imports {other}, which is not on a lower floor")
    for package in [name for name in files if _is_room(files, name)]:
        found += [f"circle: {', '.join(group)}" for group in circles(between(package, graph))]
        beside = [name for name in children(package, files) if not _is_room(files, name)]
        if len(beside) > MOST_MODULES:
            found.append(f"{package} has {len(beside)} modules, more than {MOST_MODULES}")
    return found


def _levels(graph: Graph) -> dict[str, int]:
    """Return each node's level: one above the highest that it imports."""
    graph = _without_circles(graph)
    levels: dict[str, int] = {}

    def level(node: str) -> int:
        if node not in levels:
            levels[node] = 1 + max((level(other) for other in graph.get(node, ())), default=-1)
        return levels[node]

    for node in graph:
        level(node)
    return levels


def _without_circles(graph: Graph) -> Graph:
    """Return the graph without arrows inside of circles, which have no order."""
    caught = [set(group) for group in circles(graph)]
    return {
        node: {item for item in wanted if not any({node, item} <= group for group in caught)}
        for node, wanted in graph.items()
    }


def _reduced(graph: Graph) -> Graph:
    """Return the graph without arrows that a longer way already shows."""
    graph = _without_circles(graph)

    def reach(node: str) -> set[str]:
        return set().union(*({other} | reach(other) for other in graph.get(node, ())))

    return {
        node: {
            other
            for other in wanted
            if not any(other in reach(third) for third in wanted if third != other)
        }
        for node, wanted in graph.items()
    }


def draw(
    graph: Graph,
    levels: dict[str, int],
    inside: dict[str, list[str]],
    columns: dict[str, float] | None = None,
) -> str:
    """Return an SVG of boxes in rows, the ground at the bottom; an arrow means "imports".

    Parameters
    ----------
    levels
        Row of each node, 0 at the bottom.
    inside
        Names written into each node's box.
    columns
        Place of each node from left to right, in boxes; by default each row is centred.
    """
    rows = [
        [node for node in sorted(graph) if levels[node] == level]
        for level in range(max(levels.values()), -1, -1)
    ]
    if columns is None:
        most = max(map(len, rows))
        columns = {
            node: place + (most - len(row)) / 2 for row in rows for place, node in enumerate(row)
        }
    width = (max(columns[node] for node in graph) + 1) * (BOX_WIDTH + GAP) - GAP + 2 * MARGIN
    boxes: dict[str, tuple[float, float, float]] = {}
    shapes, top = [], float(MARGIN)
    for row in rows:
        height = max(2 + len(inside.get(node, [])) for node in row) * LINE
        for node in row:
            x = MARGIN + columns[node] * (BOX_WIDTH + GAP)
            boxes[node] = (x + BOX_WIDTH / 2, top, top + height)
            shapes.append(f'<rect x="{x}" y="{top}" width="{BOX_WIDTH}" height="{height}"/>')
            lines = [node.split(".")[-1], *inside.get(node, [])]
            for number, text in enumerate(lines):
                kind = ' class="name"' if number == 0 else ""
                y = top + LINE * (number + 1.3)
                shapes.append(
                    f'<text{kind} x="{x + BOX_WIDTH / 2}" y="{y}">{html.escape(text)}</text>'
                )
        top += height + ROW_GAP
    arrows = []
    for node, wanted in sorted(_reduced(graph).items()):
        for other in sorted(wanted):
            (x0, _, y0), (x1, y1, _) = boxes[node], boxes[other]
            bend = (y1 - y0) / 2
            arrows.append(
                f'<path d="M{x0},{y0} C{x0},{y0 + bend} {x1},{y1 - bend} {x1},{y1 - 3}"/>'
            )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:#4a6a85;stroke:none"/></marker>'
    )
    height = top - ROW_GAP + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        f"<style>{STYLE}</style><defs>{tip}</defs>"
        f'<rect x="0" y="0" width="{width}" height="{height}" style="fill:#fff;stroke:none"/>'
        + "".join(arrows + shapes)
        + "</svg>\n"
    )


def drawings(root: Path = ROOT) -> dict[str, str]:
    """Return the SVG of the house and of each larger room, by file name."""
    files = module_names(root)
    graph = imports(files)
    house = between("matml", graph)
    named = {
        room: [name.split(".")[-1] for name in children(room, files) if _is_room(files, name)]
        for room in house
    }
    floors = {room: floor_of(room.split(".")[1]) for room in house}
    columns = {room: COLUMNS[room.split(".")[1]] for room in house}
    found = {"house.svg": draw(house, floors, named, columns)}
    for room in ROOMS_DRAWN:
        inner = between(f"matml.{room}", graph)
        found[f"{room}.svg"] = draw(inner, _levels(inner), {})
    return found


def _is_room(files: dict[str, Path], name: str) -> bool:
    return name not in files or files[name].name == "__init__.py"


def main() -> None:
    """Write every drawing into the folder that is named."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, text in drawings().items():
        (out / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
