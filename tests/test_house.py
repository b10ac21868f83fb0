"""The house keeps its floors: imports point down, what is final stays final, a rule is a page."""
import ast
import inspect
from pathlib import Path

import nplearn
from nplearn.rules import registry
from tests.homes import nets_of

ROOT = Path(nplearn.__file__).parent
FLOORS = [{"errors"}, {"backend", "interrupts"}, {"kernels"}, {"columns", "params"},
          {"tape", "feedback", "losses", "optim"}, {"layers"}, {"rules", "nets", "data"}, {"metrics", "checkpoint"},
          {"resume", "plots"}, {"train", "testing"}, {"runs"}, {"cli"}, {"__main__"}]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
TREES = {path.relative_to(ROOT).with_suffix(""): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
KINDS = {type(registry.make(name)) for name in registry.RULES}


def name_of(path):
    return ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)


MODULES = {name_of(path): tree for path, tree in TREES.items()}


def imports(tree):
    """The modules of nplearn that a file reads, by name without "nplearn."; those imported in functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "nplearn":
            base = node.module.removeprefix("nplearn").removeprefix(".")
            inner = {f"{base}.{alias.name}".strip(".") for alias in node.names}
            found |= {name if name in MODULES else base for name in inner}
    return found


def test_every_room_has_a_floor():
    assert {name.partition(".")[0] for name in MODULES} - {""} == set(FLOOR)


def test_imports_point_down():
    for name, tree in MODULES.items():
        room = name.partition(".")[0]
        for other in imports(tree) if room else ():
            below = other.partition(".")[0]
            assert below == room or not below or FLOOR[below] < FLOOR[room], f"{name} imports {other}"


def test_no_module_imports_itself_by_a_detour():
    graph = {name: imports(tree) - {name} for name, tree in MODULES.items() if name and tree.body}
    packages = {name for name, path in zip(MODULES, TREES, strict=True) if path.name == "__init__"}
    seen, under = set(), []

    def visit(name):
        assert name not in under, " -> ".join([*under, name])
        if name in seen or name not in graph:
            return
        under.append(name)
        for other in sorted(graph[name]):
            if other not in packages:                   # a package's own file only gathers
                visit(other)
        under.pop()
        seen.add(name)

    for name in sorted(graph):
        visit(name)
    assert len(seen) == len(graph) > 100


def test_a_class_of_which_there_are_objects_has_no_subclass():
    """Errors aside: the method one reads is the method that runs."""
    bases, made, ours = {}, {kind.__name__ for kind in KINDS}, set()
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                ours.add(node.name)
                for base in node.bases:
                    bases.setdefault(ast.unparse(base).rpartition(".")[2], []).append(f"{name}.{node.name}")
            elif isinstance(node, ast.Call):
                made.add(ast.unparse(node.func).rpartition(".")[2])
    both = made & ours & set(bases) - {"NplearnError"}
    assert not both, {base: bases[base] for base in both}


def test_nothing_that_a_rule_keeps_hides_one_of_its_methods():
    for text in registry.names(controls=True):
        build = next(iter(nets_of(text).values()))
        rule = registry.make(text).attach(build(0), 0)
        hidden = {name for name in vars(rule) if hasattr(type(rule), name) and callable(getattr(type(rule), name))}
        assert not hidden, f"{text}: {hidden}"


def test_a_rule_is_a_page():
    for path in map(inspect.getsourcefile, KINDS):
        assert len(Path(path).read_text().splitlines()) <= 100, path
