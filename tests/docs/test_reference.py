"""What the documentation says of the code and could be wrong about is generated, complete and up to date."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orderkit.domain.commands import CreateDraft, PlaceOrder, kind_of
from orderkit.domain.decisions import RULES
from orderkit.domain.status import OrderStatus
from orderkit.kit.settings import Settings
from orderkit.storage.sql.tables import PREFIX, metadata
from tests.docs.blocks import ROOT
from tools import reference
from tools.statechart import state_chart
from tools.tablechart import table_chart

DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")}
STALE = "run `python -m tools.reference`"


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if reference.names_in(text)])
def test_the_generated_parts_of_a_page_are_up_to_date(name: str) -> None:
    assert PAGES[name] == reference.filled(PAGES[name]), STALE


def test_everything_that_can_be_generated_stands_somewhere_once() -> None:
    used = [part for text in PAGES.values() for part in reference.names_in(text)]
    assert sorted(used) == sorted(reference.PARTS)


@pytest.mark.parametrize("path", reference.CHARTS, ids=lambda path: path.stem)
def test_the_charts_are_up_to_date(path: Path) -> None:
    assert path.read_text() == reference.CHARTS[path](), STALE


def test_the_chart_is_a_picture_that_names_every_table() -> None:
    drawn = "".join(ElementTree.fromstring(table_chart()).itertext())
    assert [name for name in metadata.tables if name.removeprefix(PREFIX) not in drawn] == []


def test_the_chart_is_a_picture_that_names_every_state_and_every_command_between_them() -> None:
    drawn = "".join(ElementTree.fromstring(state_chart()).itertext())
    moving = {rule.kind for rule in RULES.values() if rule.targets} | {kind_of(CreateDraft), kind_of(PlaceOrder)}
    assert [word for word in {*OrderStatus, *moving} if word not in drawn] == []


def test_the_table_of_settings_lists_every_variable_in_order() -> None:
    told = re.findall(r"^\| `ORDERKIT_(\w+)`", PAGES["how-to/settings.md"], re.MULTILINE)
    assert told == [name.upper() for name in Settings.model_fields]


def test_the_table_of_errors_lists_every_code() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| `\w+`", PAGES["reference/errors.md"], re.MULTILINE))
    assert told >= {error.code for error in reference.error_types()} - {"orderkit_error"}
    assert len(told) > 30


def test_the_field_errors_are_found_in_the_source() -> None:
    found = reference.field_errors()
    for code in ("quantity_not_positive", "order_empty", "metadata_too_deep", "duplicate_line_id"):
        assert f"`{code}`" in found


def test_a_part_that_has_changed_is_noticed() -> None:
    page = PAGES["how-to/settings.md"].replace("ORDERKIT_POOL_SIZE` |", "ORDERKIT_POOL` |")
    assert reference.filled(page) != page
