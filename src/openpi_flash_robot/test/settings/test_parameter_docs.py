"""parameter_docs.py: the page is what the table says."""

from pathlib import Path

from openpi_flash_robot.settings.parameter_docs import page
from openpi_flash_robot.settings.parameter_table import PARAMETERS

DOCS = Path(__file__).resolve().parents[4] / "docs" / "robot_parameters.md"


def test_the_page_in_docs_is_the_generated_one():
    assert DOCS.read_text() == page(), (
        "run: python -m openpi_flash_robot.settings.parameter_docs > docs/robot_parameters.md"
    )


def test_every_parameter_has_one_row_that_holds_its_text():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(PARAMETERS)
    for row, parameter in zip(rows, PARAMETERS, strict=True):
        assert f"`{parameter.name}`" in row
        assert parameter.text in row
