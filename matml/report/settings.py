"""Settings of the page."""

from pydantic import (
    Field,
)

from matml.core.settings import Section


class ReportSection(Section):
    """The report page (`matml report`)."""

    title: str = Field(
        default="New families and new alloys from a handful of points",
        min_length=1,
        description="Title of the page.",
    )
    families_shown: int = Field(
        default=20, ge=1, le=100, description="Largest families drawn in the bar chart."
    )
    candidates_shown: int = Field(
        default=100, ge=1, le=1000, description="Rows of the shortlist on the page (5 kB each)."
    )
    crystals_shown: int = Field(
        default=20,
        ge=0,
        le=200,
        description="Best candidates whose crystals can be viewed and turned.",
    )
