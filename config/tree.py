"""The shape of the tree: every name once, every child under one supervisor, one root, nothing left over."""

from __future__ import annotations

import json
import re
from typing import Any

from regrow.config import standby
from regrow.config.context import Context
from regrow.config.errors import did_you_mean, nearest
from regrow.config.sources import Source, Tables
from regrow.config.spec import ChildSpec, Strategy, SupervisorSpec, WorkerSpec
from regrow.config.supervisor import check_significant, read_supervisor
from regrow.config.values import NAME_PATTERN
from regrow.config.worker import read_workers
from regrow.config.workflow import read_workflow

DEEPEST = 100  # supervisors are processes; a tree deeper than this is a mistake, and would end our own recursion

_NAME = re.compile(NAME_PATTERN)


class Tree:
    """Reads all [supervisor.X] and [worker.X] tables and puts them together."""

    def __init__(self, context: Context, tables: Tables) -> None:
        self._context = context
        self._tables = tables
        self._supervisors: dict[str, dict[str, Any]] = {}
        self._workers: dict[str, list[WorkerSpec]] = {}
        self._workflows: dict[str, SupervisorSpec | None] = {}
        self._parents: dict[str, list[str]] = {}
        self._templates: set[str] = set()
        self._excused: set[str] = set()  # named wrongly, or meant by a wrong name: not reported as unused as well

    def build(self, root: str | None, first: Source) -> SupervisorSpec | None:
        """
        Return the tree below `root`, or below the one supervisor that is nobody's child; None after a problem.

        `first` is the file to blame when there is no supervisor at all.
        """
        if not self._tables.supervisors:
            hint = 'write [supervisor.app] with children = ["…"]'
            self._context.problems.add(first, (), "there is no supervisor", hint, "no_root")
        self._check_names()
        for name, table in self._tables.supervisors.items():
            self._supervisors[name] = read_supervisor(self._context, self._source("supervisor", name), name, table)
        self._check_children()
        self._check_templates()
        top = self._find_root(root)
        for name, table in self._tables.workers.items():
            source = self._source("worker", name)
            self._workers[name] = read_workers(self._context, source, ("worker", name), table)
        for name, table in self._tables.workflows.items():
            self._workflows[name] = read_workflow(self._context, self._source("workflow", name), name, table)
        self._check_significance(top)
        return self._supervisor(top) if top is not None and not self._context.problems else None

    def _source(self, family: str, name: str) -> Source:
        return self._tables.owner[family, name]

    def _wrong(self, path: tuple[str | int, ...], problem: str, hint: str = "", code: str = "") -> None:
        self._context.problems.add(self._source(str(path[0]), str(path[1])), path, problem, hint, code)

    def _check_names(self) -> None:
        tables = self._tables
        families = {"supervisor": tables.supervisors, "worker": tables.workers, "workflow": tables.workflows}
        for family, names in families.items():
            for name in names:
                if not _NAME.search(name):
                    group, _, index = name.partition(".")
                    is_replica = index.isdecimal() and group in self._tables.workers
                    hint = f"it is a replica of `{group}`" if is_replica else ""
                    code = "duplicate_child_name" if is_replica else "invalid_name"
                    said = "a name has small letters, digits, _ and -, and begins with a letter"
                    self._wrong((family, name), said, hint, code)
                    self._excused.add(name)
        for name in self._tables.workers:
            if name in self._tables.supervisors:
                earlier = self._source("supervisor", name)
                said = f"{earlier.file}:{earlier.line(('supervisor', name))} is a supervisor of the same name"
                self._wrong(("worker", name), said, "a name is unique in the whole tree", "duplicate_child_name")
        for name in tables.workflows:
            for family in ("supervisor", "worker"):
                if name in families[family]:
                    earlier = self._source(family, name)
                    said = f"{earlier.file}:{earlier.line((family, name))} is a {family} of the same name"
                    hint = "a name is unique in the whole tree"
                    self._wrong(("workflow", name), said, hint, "duplicate_child_name")

    def _check_children(self) -> None:
        """Note every child's supervisors, in the file's order; report unknown children and children with two places."""
        for name, fields in self._supervisors.items():
            for index, child in enumerate(fields.get("children", ())):
                path = ("supervisor", name, "children", index)
                tables = self._tables
                if child not in self._supervisors and child not in tables.workers and child not in tables.workflows:
                    near = nearest(child, (*tables.workers, *self._supervisors, *tables.workflows))
                    self._excused.add(near or "")
                    hint = f"did you mean `{near}`?" if near else ""
                    self._wrong(path, f"there is no worker or supervisor `{child}`", hint, "unknown_child")
                    continue
                parents = self._parents.setdefault(child, [])
                if name in parents:
                    self._wrong(path, f"`{child}` is listed twice", code="duplicate_child_name")
                elif parents:
                    said = f"`{child}` is already a child of `{parents[0]}`"
                    self._wrong(path, said, "a child has one supervisor", "two_parents")
                else:
                    parents.append(name)

    def _check_templates(self) -> None:
        for name, fields in self._supervisors.items():
            template = fields.get("template")
            if template is None:
                continue
            self._templates.add(template)
            table = self._tables.workers.get(template)
            path = ("supervisor", name, "template")
            if table is None:
                hint = did_you_mean(template, self._tables.workers)
                self._wrong(path, f"there is no worker `{template}`", hint, "unknown_child")
            elif table.get("standby"):
                said = f"`{template}` has standby, and so cannot be a template: {standby.UNDER_DYNAMIC}"
                self._wrong(path, said, code="bad_combination")
            for key in ("replicas", "update"):
                if key in (table or ()):
                    said = f"`{template}` has {key}, and so cannot be a template"
                    self._wrong(path, said, code="bad_combination")

    def _find_root(self, named: str | None) -> str | None:
        """Return the name of the root; report cycles, and whatever does not hang below the root."""
        self._report_cycles()
        tops = [name for name in self._supervisors if name not in self._parents and name not in self._excused]
        root = self._named_root(named) if named is not None else tops[0] if len(tops) == 1 else None
        if named is None and len(tops) > 1:
            said = f"{', '.join(tops)} are nobody's children: there must be one root"
            hint = "put one into the children of another"
            self._wrong(("supervisor", tops[1]), said, hint, "several_roots")
        elif named is not None:
            for name in tops:
                if name != root and root is not None:
                    self._wrong(("supervisor", name), "is nobody's child and not the root", code="several_roots")
        for name in self._tables.workers:
            if name not in self._parents and name not in self._templates and name not in self._excused:
                hint = "put it into the children of a supervisor"
                self._wrong(("worker", name), "is nobody's child", hint, "unused")
        for name in self._tables.workflows:
            if name not in self._parents and name not in self._excused:
                hint = "put it into the children of a supervisor"
                self._wrong(("workflow", name), "is nobody's child", hint, "unused")
        return root

    def _named_root(self, named: str) -> str | None:
        source = self._tables.owner["daemon",]
        if named not in self._supervisors:
            hint = did_you_mean(named, self._supervisors)
            said = f"there is no supervisor `{named}`"
            self._context.problems.add(source, ("daemon", "root"), said, hint, "no_root")
            return None
        if named in self._parents:
            said = f"`{named}` is a child of `{self._parents[named][0]}`"
            self._context.problems.add(source, ("daemon", "root"), said, code="no_root")
            return None
        return named

    def _report_cycles(self) -> None:
        """Report each cycle once, at the child that closes it. Every supervisor has at most one parent here."""
        seen: set[str] = set()
        for start in self._supervisors:
            trail: list[str] = []
            name: str | None = start
            while name is not None and name not in seen:
                seen.add(name)
                trail.append(name)
                name = next(iter(self._parents.get(name, ())), None)
            if name is not None and name in trail:
                cycle = [*reversed(trail[trail.index(name) :])]
                parent = cycle[0]
                index = list(self._supervisors[parent]["children"]).index(cycle[1] if len(cycle) > 1 else parent)
                said = f"a cycle: {' -> '.join([*cycle, cycle[0]])}"
                self._wrong(("supervisor", parent, "children", index), said, code="cycle")

    def _check_significance(self, root: str | None) -> None:
        for name, fields in self._supervisors.items():
            parents = self._parents.get(name)
            if parents or name == root:
                at = self._context.at(self._source("supervisor", name), ("supervisor", name))
                check_significant(at, fields, self._supervisors[parents[0]] if parents else None)
        for name, specs in self._workers.items():
            parents = self._parents.get(name)
            at = self._context.at(self._source("worker", name), ("worker", name))
            fields = {"significant": specs[0].significant, "restart": specs[0].restart} if specs else {}
            if parents:
                check_significant(at, fields, self._supervisors[parents[0]])
            elif name in self._templates:
                check_significant(at, fields, {"strategy": Strategy.DYNAMIC})

    def _supervisor(self, name: str, depth: int = 1) -> SupervisorSpec:
        """Return the supervisor with everything below it. There are no problems any more, but depth."""
        if depth > DEEPEST:
            self._wrong(("supervisor", name), f"the tree is deeper than {DEEPEST} supervisors", code="too_deep")
            self._context.problems.raise_if_any()
        fields = dict(self._supervisors[name])
        children: list[ChildSpec] = []
        for child in fields.pop("children", ()):
            if child in self._supervisors:
                children.append(self._supervisor(child, depth + 1))
            elif (workflow := self._workflows.get(child)) is not None:
                children.append(workflow)
            else:
                children.extend(self._workers[child])
        if "template" in fields:
            template = fields["template"]
            fields["template"] = json.dumps(self._tables.workers[template])
            fields["base_dir"] = self._source("worker", template).folder
        return SupervisorSpec(name=name, children=tuple(children), **fields)
