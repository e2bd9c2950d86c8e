"""The graph of rules as inline SVG, from the dot text of Snakemake's `--rulegraph`; graphviz is not needed.

Layers are longest paths from the sources. Edges that a longer way implies are left out, those over several layers pass
through a point in each, and the points of a layer are ordered by the mean place of their neighbours.
"""

import re
from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise

NODE = re.compile(r'^\s*(\w+)\s*\[\s*label\s*=\s*"([^"]*)"', re.MULTILINE)
EDGE = re.compile(r"^\s*(\w+)\s*->\s*(\w+)", re.MULTILINE)
HEIGHT, LAYER, GAP, MARGIN = 30, 64, 18, 6  # pixels: a box, from layer to layer, between boxes, around all
LETTER, PADDING = 7.3, 12  # width of a letter at 13 px, and beside a label
POINT = 8  # room of an edge that passes a layer
SWEEPS = 8
Graph = dict[str, set[str]]  # node → those it leads to


def dot(rules: Iterable[str], edges: Iterable[tuple[str, str]]) -> str:
    """Rules and pairs (needed, needing) of them as a dot text like that of `--rulegraph`; equal pairs, equal text."""
    names, pairs = sorted(set(rules)), sorted(set(edges))
    lines = [f'{number}[label = "{name}"];' for number, name in enumerate(names)]
    lines += [f"{names.index(first)} -> {names.index(second)}" for first, second in pairs]
    return "\n\t".join(["digraph snakemake_dag {", *lines]) + "\n}\n"


def parse(dot: str) -> tuple[dict[str, str], Graph]:
    """Node → label, and node → successors, of a dot text."""
    labels = dict(NODE.findall(dot))
    following: Graph = {node: set() for node in labels}
    for first, second in EDGE.findall(dot):
        if first in labels and second in labels and first != second:
            following[first].add(second)
    return labels, following


def reduced(following: Mapping[str, set[str]]) -> Graph:
    """The same graph without edges that a longer way implies; a ValueError where there is a cycle."""
    reached: Graph = {}
    for node in reversed(topological(following)):
        reached[node] = following[node].union(*(reached[n] for n in following[node]))
    return {
        node: {n for n in after if not any(n in reached[other] for other in after)} for node, after in following.items()
    }


def topological(following: Mapping[str, set[str]]) -> list[str]:
    """Nodes, each before those it leads to."""
    waiting = {node: sum(node in after for after in following.values()) for node in following}
    order = [node for node, count in waiting.items() if not count]
    for node in order:
        for after in sorted(following[node]):
            waiting[after] -= 1
            if not waiting[after]:
                order.append(after)
    if len(order) < len(following):
        raise ValueError("the graph has a cycle")
    return order


def layers(following: Mapping[str, set[str]]) -> dict[str, int]:
    """Node → layer: 0 without predecessors, else one below the lowest of them."""
    depth = dict.fromkeys(following, 0)
    for node in topological(following):
        for after in following[node]:
            depth[after] = max(depth[after], depth[node] + 1)
    # sources go down to where they are needed, so that their edges are short
    for node in reversed(topological(following)):
        if following[node] and not any(node in after for after in following.values()):
            depth[node] = min(depth[after] for after in following[node]) - 1
    return depth


def draw(dot: str, title: str = "Rules and what each needs") -> str:
    """An `<svg>` element of class `dag`: boxes of class `rule` with their name, edges of class `edge`.

    Raises a ValueError where the text has no node or the graph a cycle.
    """
    labels, following = parse(dot)
    if not labels:
        raise ValueError("no rules in the dot text")
    following = reduced(following)
    depth = layers(following)
    ways = {}  # edge → its nodes, with a point in each layer that it passes
    rows: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for node in topological(following):
        rows[depth[node]].append(node)
    for node, after in following.items():
        for target in sorted(after):
            passed = [f"{node}>{target}>{layer}" for layer in range(depth[node] + 1, depth[target])]
            for point, layer in zip(passed, range(depth[node] + 1, depth[target]), strict=True):
                rows[layer].append(point)
            ways[node, target] = [node, *passed, target]
    links = [pair for way in ways.values() for pair in pairwise(way)]
    rows = _ordered(rows, links)
    widths = {
        name: LETTER * len(labels[name]) + 2 * PADDING if name in labels else POINT for row in rows for name in row
    }
    x, width = _places(rows, widths, links)
    y = {name: MARGIN + HEIGHT / 2 + LAYER * layer for layer, row in enumerate(rows) for name in row}
    height = 2 * MARGIN + HEIGHT + LAYER * (len(rows) - 1)
    edges = "".join(_edge([(x[name], y[name]) for name in way]) for way in ways.values())
    boxes = "".join(
        _box(labels[name], x[name], y[name], widths[name]) for row in rows for name in row if name in labels
    )
    return (
        f'<svg class="dag" role="img" aria-label="{escape(title)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>{edges}{boxes}</svg>'
    )


def _ordered(rows: list[list[str]], links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Layers with few crossings: sorted by the mean place of their neighbours, from above and from below by turns."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for first, second in links:
        above.setdefault(second, []).append(first)
        below.setdefault(first, []).append(second)
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(SWEEPS):
        neighbours = below if sweep % 2 else above
        place = {name: n / max(1, len(row) - 1) for row in rows for n, name in enumerate(row)}
        new = []
        for row in reversed(rows) if sweep % 2 else rows:
            mean = {n: _mean([place[o] for o in neighbours.get(n, [])], place[n]) for n in row}
            new.append(sorted(row, key=lambda name: mean[name]))
            place |= {name: n / max(1, len(row) - 1) for n, name in enumerate(new[-1])}
        rows = new[::-1] if sweep % 2 else new
        if (crossed := _crossings(rows, below)) < fewest:
            best, fewest = rows, crossed
    return best


def _crossings(rows: list[list[str]], below: Mapping[str, list[str]]) -> int:
    place = {name: n for row in rows for n, name in enumerate(row)}
    total = 0
    for row in rows:
        ends = [(place[first], place[second]) for first in row for second in below.get(first, [])]
        total += sum((a < c and b > d) or (a > c and b < d) for n, (a, b) in enumerate(ends) for c, d in ends[:n])
    return total


def _places(
    rows: list[list[str]], widths: Mapping[str, float], links: Iterable[tuple[str, str]]
) -> tuple[dict[str, float], float]:
    """Name → x of its middle, and the width of all: rows are centred, then boxes move towards their neighbours."""
    near: dict[str, list[str]] = {}
    for first, second in links:
        near.setdefault(first, []).append(second)
        near.setdefault(second, []).append(first)
    x: dict[str, float] = {}
    for row in rows:
        at = -(sum(widths[name] for name in row) + GAP * (len(row) - 1)) / 2
        for name in row:
            x[name] = at + widths[name] / 2
            at += widths[name] + GAP
    for _ in range(2 * SWEEPS):
        for row in rows:
            wish = [_mean([x[other] for other in near.get(name, [])], x[name]) for name in row]
            for step in (range(len(row)), reversed(range(len(row)))):
                for n in step:
                    left = x[row[n - 1]] + _apart(row[n - 1], row[n], widths) if n else float("-inf")
                    right = x[row[n + 1]] - _apart(row[n], row[n + 1], widths) if n + 1 < len(row) else float("inf")
                    x[row[n]] = max(left, min(right, wish[n]))
    low = min(x[name] - widths[name] / 2 for name in x) - MARGIN
    high = max(x[name] + widths[name] / 2 for name in x) + MARGIN
    return {name: at - low for name, at in x.items()}, high - low


def _apart(left: str, right: str, widths: Mapping[str, float]) -> float:
    return (widths[left] + widths[right]) / 2 + GAP


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _edge(points: list[tuple[float, float]]) -> str:
    """A smooth way from the lower side of the first box to the upper side of the last."""
    (x, y), *rest = points
    y += HEIGHT / 2
    path = f"M{x:.1f},{y:.1f}"
    for n, (nx, middle) in enumerate(rest):
        top, last = middle - HEIGHT / 2, n == len(rest) - 1
        bend = (y + top) / 2
        path += f" C{x:.1f},{bend:.1f} {nx:.1f},{bend:.1f} {nx:.1f},{top:.1f}"
        x, y = nx, top if last else middle + HEIGHT / 2
        path += "" if last else f" V{y:.1f}"  # straight down between the boxes of a layer that is passed
    return f'<path class="edge" d="{path}" marker-end="url(#tip)"/>'


def _box(label: str, x: float, y: float, width: float) -> str:
    left, top = x - width / 2, y - HEIGHT / 2
    box = f'<rect class="rule" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="6"/>'
    return box + f'<text class="rule-name" x="{x:.1f}" y="{y + 4.5:.1f}">{escape(label)}</text>'
