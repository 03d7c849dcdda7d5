"""How generated files are written: stable, and saying that they are generated."""

from __future__ import annotations

from typing import Any

import yaml

NOTE = "# Made of the manifests by scripts/check_fleet.py --fix; change those, or scripts/generate.\n"


WIDTH = 120
# Structures that are written on one line where they fit.
SHORT = 100


class _Plain(yaml.SafeDumper):
    """No anchors: whoever reads a service has all of it before them. Short structures stand on one line."""

    def ignore_aliases(self, _: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=flow_style or _fits(sequence))

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        return super().represent_mapping(tag, mapping, flow_style=flow_style or _fits(mapping))


def _fits(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    is_deep = any(isinstance(each, dict) and any(isinstance(e, dict | list) for e in each.values()) for each in parts)
    text = str(value)
    return not is_deep and len(text) <= SHORT and "\\n" not in text


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Plain.add_representer(str, _text)


def to_yaml(*documents: Any) -> str:
    """One or more documents under the note, in the order of their keys."""
    return NOTE + yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=WIDTH, allow_unicode=True)
