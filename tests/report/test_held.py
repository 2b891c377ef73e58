"""Only columns and rows in which something was measured are shown, on the page and in the studio."""

from __future__ import annotations

from bothways.report.tables import Cell, Table, held, name, number
from bothways.report.template import templates
from bothways.studio.fragments import _filled
from bothways.tasks.generate.section import judge_table

TABLE = Table(
    "Judge", ["Judge", "Hit", "Kernel"], [[name("a"), number(None), number(2.5)], [name("b"), *2 * [number(None)]]]
)


def test_an_empty_column_and_an_empty_row_are_left_out() -> None:
    found = held(TABLE)
    assert found.columns == ["Judge", "Kernel"]
    assert [[cell.text for cell in row] for row in found.rows] == [["a", "2.50"]]
    remarked = Table("t", ["a", "b"], [[name("x"), Cell("", remark="why")]])
    assert held(remarked) == remarked
    settings = Table("Settings", ["", "run"], [[name("seed"), Cell("not set")]])
    assert held(settings) == settings


def test_the_report_and_the_studio_show_what_is_held() -> None:
    sheet = str(templates().get_template("parts.html.jinja").module.sheet(TABLE))
    for page in (sheet, _filled("tables", tables=[TABLE])):
        assert ("Kernel" in page, "Hit" in page, "not measured" in page) == (True, False, False)


def test_a_judge_without_classes_has_no_count_of_zero() -> None:
    """As an encoder that judged two pictures: no target, and too few for a distance."""
    judge = {"judge": "encoder", "hit_rate": None, "hit_interval": [0, 1], "n": 0, "n_real": 0, "diversity": 1.5}
    judge |= {"frechet": None, "kernel": 0.012, "kernel_interval": [0.004, 0.02]}
    found = held(judge_table({"judges": [judge]}))
    assert found.columns == ["Judge", "Kernel", "Diversity"]
    assert (found.rows[0][1].text, found.rows[0][1].remark) == ("0.0120", "0.00400–0.0200")
