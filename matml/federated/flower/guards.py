"""Flower's SuperLink and SuperNode, each with what it does not refuse by itself.

A SuperLink takes runs, and with them code, from whoever reaches its port: here from its own machine
alone. A SuperNode runs whatever app a SuperLink sends: here matml's alone, so that only answers to
rounds leave a laboratory.

    python -m matml.federated.flower.guards superlink|supernode …

For what Flower offers no setting, two of its functions are replaced; releases are pinned for it.
"""

import io
import ipaddress
import os
import sys
import zipfile
from importlib import import_module
from typing import Any

import tomli

from matml import __version__
from matml.core.errors import MatmlError

OPEN = ("/v1/fleet/", "/health")
"""Paths that other machines may ask for: those of SuperNodes."""
APP: dict[str, Any] = {
    "project": {
        "name": "matml-federated",
        "version": __version__,
        "description": "Rounds of matml federated",
        "license": "MIT",
    },
    "tool": {
        "flwr": {
            "app": {
                "publisher": "matml",
                "components": {
                    "serverapp": "matml.federated.flower.rounds:app",
                    "clientapp": "matml.federated.flower.answers:app",
                },
                "config": {
                    "begun": "",
                    "out": "",
                    "laboratories": "",
                    "patience_s": 600.0,
                    "go_on": False,
                    "trust_equation": False,
                },
            }
        }
    },
}
"""What `flwr run` is given: no code, but where it is in matml."""


class OwnMachineOnly:
    """Pass requests of other machines on only where they are a SuperNode's."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "http" and not scope["path"].startswith(OPEN):
            theirs, own = ((scope.get(side) or ("",))[0] for side in ("client", "server"))
            # a machine calls itself by one address
            if not (_is_loopback(theirs) or (theirs and theirs == own)):
                await send({"type": "http.response.start", "status": 403, "headers": []})
                await send({"type": "http.response.body", "body": b"from its own machine only"})
                return
        await self.app(scope, receive, send)


def check_app(content: bytes) -> None:
    """Refuse an app that is not this version's own.

    Raises
    ------
    MatmlError
        Where it is another one, or has code of its own.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        names = {*bundle.namelist()}
        told = tomli.loads(bundle.read("pyproject.toml").decode())
    if names != {"pyproject.toml", ".info/CONTENT"} or told != APP:
        found = told.get("project", {})
        raise MatmlError(
            f"the SuperLink sent the app {found.get('name')} {found.get('version')}, not that of "
            f"matml {__version__}, which alone runs here; let all use one version of matml"
        )


def superlink() -> None:
    """Run Flower's SuperLink."""
    from flwr.superlink import extensions
    from flwr.superlink.cli import flower_superlink
    from starlette.middleware import Middleware

    extensions.get_middleware = lambda: (Middleware(OwnMachineOnly),)
    flower_superlink()


def supernode() -> None:
    """Run Flower's SuperNode."""
    from flwr.supernode.cli import flower_supernode

    # a function in it has its name
    node = import_module("flwr.supernode.start_client_internal")
    plain = node.get_fused_config_from_fab

    def checked(content: Any, run: Any) -> Any:
        check_app(content)
        return plain(content, run)

    node.get_fused_config_from_fab = checked  # type: ignore[attr-defined]
    flower_supernode()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    from flwr.supercore.app_utils import start_parent_process_monitor

    # it ends with the command that began it, also where that is killed
    start_parent_process_monitor(os.getppid())
    {"superlink": superlink, "supernode": supernode}[sys.argv.pop(1)]()
