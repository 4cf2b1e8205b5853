"""The DAG as a drawing: one column a stage, each node once, edges left to right.

A small layered layout (Sugiyama, Tagawa and Toda 1981) with its three steps. Edges that a longer path implies are
left out (transitive reduction). An edge that spans columns runs through way-points, one a column and shared by
all the edges of its source, so that it bends around nodes and not through them. Nodes stay in their group (the recipe,
the corpus), and groups and nodes are ordered by the mean height of what they are made from.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from pileline.report.read import STAGES, Node, Results

ROW, HEADING, WAYPOINT, GROUP_GAP = 22.0, 15.0, 9.0, 7.0  # heights in pixels
COLUMN_GAP, MARGIN, TOP = 26.0, 6.0, 30.0
CHARACTER = 6.3  # mean width of a character at 11 pixels


@dataclass
class Box:
    """A node (or, without a label, a way-point) with its place; `x`, `y` is its left edge's middle."""

    name: str
    column: int
    label: str = ""
    href: str = ""
    missing: bool = False
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class Heading:
    """A text at a place: the name of a column or of a group of nodes."""

    text: str
    x: float
    y: float


@dataclass
class Drawing:
    """What the template draws."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    columns: list[Heading] = field(default_factory=list)
    groups: list[Heading] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def reduce_edges(nodes: tuple[Node, ...]) -> list[tuple[str, str]]:
    """The edges (made from, made) that no longer path implies."""
    inputs = {node.name: [name for name in node.inputs if name != node.name] for node in nodes}
    above: dict[str, set[str]] = {}
    for node in nodes:  # the plan is in order of the stages, so inputs come first
        above[node.name] = set().union(*(above.get(name, set()) | {name} for name in inputs[node.name]))
    edges = []
    for name, made_from in inputs.items():
        for source in made_from:
            if source in inputs and not any(source in above.get(other, set()) for other in made_from):
                edges.append((source, name))
    return edges


def _group(name: str) -> str:
    """The part of a name that its neighbours share: the recipe of a cleaned source, the corpus of a tokenizer."""
    return "/".join(name.split("/")[1:-1])


def _boxes(results: Results, stages: list[str]) -> dict[str, Box]:
    """A box for every node of the plan."""
    boxes = {}
    for node in results.nodes:
        found = results.get(node.name)
        href = found.page if found else ""
        missing = found is None and node.stage != "report"
        label = node.name.rsplit("/", 1)[-1] + (f" × {node.parts}" if node.parts > 1 else "")
        boxes[node.name] = Box(node.name, stages.index(node.stage), label, href, missing)
    return boxes


def _route(edges: list[tuple[str, str]], boxes: dict[str, Box]) -> list[tuple[str, str]]:
    """Cut long edges at way-points, which are added to `boxes`; the segments, each from column to next column."""
    segments: dict[tuple[str, str], None] = {}
    for source, target in edges:
        at = source
        for column in range(boxes[source].column + 1, boxes[target].column):
            point = f"{source}>{column}"
            boxes.setdefault(point, Box(point, column))
            segments[at, point] = None
            at = point
        segments[at, target] = None
    return list(segments)


def _order(boxes: dict[str, Box], segments: list[tuple[str, str]], columns: int) -> list[list[list[Box]]]:
    """Per column its groups in order, each a list of boxes in order, by the mean rank of what they are made from."""
    sources = defaultdict(list)
    for source, target in segments:
        sources[target].append(source)
    rank: dict[str, float] = {}
    ordered = []
    for column in range(columns):
        groups: dict[str, list[Box]] = defaultdict(list)
        mine = [box for box in boxes.values() if box.column == column]
        for place, box in enumerate(mine):
            above = [rank[name] for name in sources[box.name] if name in rank]
            rank[box.name] = sum(above) / len(above) if above else place / max(1, len(mine))
            groups[_group(box.name) if box.label else box.name].append(box)
        lists = [sorted(group, key=lambda box: rank[box.name]) for group in groups.values()]
        lists.sort(key=lambda group: sum(rank[box.name] for box in group) / len(group))
        ordered.append(lists)
        for place, box in enumerate(box for group in lists for box in group):
            rank[box.name] = place / max(1, len(mine))
    return ordered


def _height(groups: list[list[Box]]) -> float:
    """The height of a column."""
    return sum(
        GROUP_GAP
        + (HEADING if group[0].label and _group(group[0].name) else 0.0)
        + sum(ROW if box.label else WAYPOINT for box in group)
        for group in groups
    )


def _place(drawing: Drawing, ordered: list[list[list[Box]]], stages: list[str]) -> None:
    """Give every box its place, and collect the headings."""
    tallest, x = max(_height(groups) for groups in ordered), MARGIN
    for stage, groups in zip(stages, ordered, strict=True):
        texts = [stage, *(text for group in groups for box in group for text in (box.label, _group(box.name)))]
        width = 14 + CHARACTER * max(len(text) for text in texts if ">" not in text)
        drawing.columns.append(Heading(stage, x, 14.0))
        y = TOP + (tallest - _height(groups)) / 2
        for group in groups:
            if group[0].label and _group(group[0].name):
                drawing.groups.append(Heading(_group(group[0].name), x, y + 10))
                y += HEADING
            for box in group:
                step = ROW if box.label else WAYPOINT
                box.x, box.y, box.width = x, y + step / 2, width
                y += step
            y += GROUP_GAP
        x += width + COLUMN_GAP
    drawing.width, drawing.height = x - COLUMN_GAP + MARGIN, TOP + tallest + MARGIN


def _curve(source: Box, target: Box) -> str:
    """A segment from one box's right to the other's left, as an SVG path; way-points are crossed straight."""
    start = source.x + source.width
    middle = (start + target.x) / 2
    crossed = f"M{source.x:.0f} {source.y:.1f}H{start:.0f}" if not source.label else f"M{start:.0f} {source.y:.1f}"
    return f"{crossed}C{middle:.0f} {source.y:.1f} {middle:.0f} {target.y:.1f} {target.x:.0f} {target.y:.1f}"


def draw(results: Results) -> Drawing:
    """The drawing of a plan."""
    used = {node.stage for node in results.nodes}
    stages = [stage for stage in STAGES if stage in used]
    boxes = _boxes(results, stages)
    segments = _route(reduce_edges(results.nodes), boxes)
    drawing = Drawing()
    _place(drawing, _order(boxes, segments, len(stages)), stages)
    drawing.boxes = [box for box in boxes.values() if box.label]
    drawing.paths = [_curve(boxes[source], boxes[target]) for source, target in segments]
    return drawing
