"""The report of a run: one HTML file, a summary for Prefect, and picture grids."""

from tasks.report.inputs import (
    CodeUse,
    Curves,
    KeyNumber,
    Likelihood,
    ReportInputs,
    SampleRow,
    curves_from_history,
)
from tasks.report.markdown import summary_markdown
from tasks.report.page import render
from tasks.report.pictures import Picture, grid

__all__ = [
    "CodeUse",
    "Curves",
    "KeyNumber",
    "Likelihood",
    "Picture",
    "ReportInputs",
    "SampleRow",
    "curves_from_history",
    "grid",
    "render",
    "summary_markdown",
]
