"""Candidates, ranking, shortlist.

What users import stands here: `from matml.screening import LabelNext, Shortlist`. The former brings
torch along; importing the package alone does not.
"""

from typing import TYPE_CHECKING

from matml.core.lazy import lazily

if TYPE_CHECKING:
    from matml.screening.acquire.label_next import LabelNext
    from matml.screening.select.found import Shortlist

__all__ = ["LabelNext", "Shortlist"]
__getattr__ = lazily(__name__, {"LabelNext": "acquire.label_next", "Shortlist": "select.found"})
