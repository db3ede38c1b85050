"""A SuperLink as its own machine sees it: who may join, and runs of rounds."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import tomli_w
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto import control_pb2
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from matml.core.errors import MatmlError
from matml.federated.flower.guards import APP

SAID = "matml: "
"""Before what is ours in a run's log."""
FAILED = "ServerApp failed with exception: "
# it tells of every request
logging.getLogger("httpx").setLevel(logging.WARNING)


def address(text: str) -> tuple[str, int]:
    """Return host and port.

    Raises
    ------
    MatmlError
        Where it is none; Flower ends with its code 600 where one has a scheme.
    """
    host, _, port = text.rpartition(":")
    if "://" in text or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise MatmlError(
            f"--superlink {text!r}: give host:port without http://, such as 127.0.0.1:8000"
        )
    return host.strip("[]"), int(port)


class Link:
    """A SuperLink on this machine.

    Parameters
    ----------
    superlink
        Its address.
    authority
        Certificate that vouches for it.
    """

    def __init__(self, superlink: str, authority: Path) -> None:
        address(superlink)
        self._superlink, self._authority = superlink, authority.read_bytes()

    def register(self, name: str, key: Path) -> None:
        """Let the laboratory of a public key join."""
        told = public_key_to_bytes(load_ssh_public_key(key.read_bytes()))  # type: ignore[arg-type]
        with self._client() as client:
            client.RegisterNode(control_pb2.RegisterNodeRequest(public_key=told, name=name))

    def learn(self, say: Callable[[str], None], **settings: Any) -> None:
        """Run all rounds.

        Parameters
        ----------
        say
            Is told of each.

        Raises
        ------
        MatmlError
            Where they end before their end, with the reason.
        """
        content, _ = build_fab_from_files({"pyproject.toml": tomli_w.dumps(APP).encode()})
        request = control_pb2.StartRunRequest(
            fab=fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {})),
            override_config=user_config_to_proto(settings),
        )
        with self._client() as client:
            number = client.StartRun(request).run_id
            run, after = None, 0.0
            try:
                while run is None or run.status.status != "finished":
                    told = control_pb2.StreamLogsRequest(run_id=number, after_timestamp=after)
                    for part in client.StreamLogs(told):
                        for line in re.findall(rf"{SAID}(.*)", part.log_output):
                            say(line)
                        after = max(after, part.latest_timestamp)
                    asked = control_pb2.ListRunsRequest(run_id=number)
                    run = client.ListRuns(asked).run_dict[number]
            finally:
                if run is None or run.status.status != "finished":
                    client.StopRun(control_pb2.StopRunRequest(run_id=number))
        if run.status.sub_status != "completed":
            said = run.status.details.removeprefix(FAILED)
            raise MatmlError(said or f"the run was {run.status.sub_status}")

    @contextmanager
    def _client(self) -> Iterator[ControlHttpClient]:
        client = ControlHttpClient.from_server_address(
            server_address=self._superlink,
            insecure=False,
            root_certificates=self._authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        try:
            yield client
        except httpx.HTTPStatusError as error:
            raise MatmlError(
                f"the SuperLink at {self._superlink} refuses: {error.response.text}"
            ) from error
        except httpx.TransportError as error:
            raise MatmlError(
                f"no SuperLink of these certificates answers at {self._superlink} ({error})"
            ) from error
        finally:
            client.close()
