"""Build hook of hatchling: the wheel carries the workflow and the embedded data in the package."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROJECT = ("Snakefile", "profiles", "workflow", "data")


class CustomBuildHook(BuildHookInterface):
    """Add what stands beside the package in a clone as `matml/project`, for `matml run`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to add; an editable install reads them where they are."""
        if version != "editable":
            build_data["force_include"] |= {name: f"matml/project/{name}" for name in PROJECT}
