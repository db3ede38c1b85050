"""What answers in a laboratory: its command, in a process that stays.

Flower begins a process for every message, which would import everything anew: that process only
hands the message on to the one that runs the SuperNode.
"""

import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

log = logging.getLogger(__name__)
WHERE, SECRET = "MATML_FLOWER_ANSWERS", "MATML_FLOWER_SECRET"
"""Environment variables that tell a message's process who answers."""
FILE, REFUSED = "file", "refused"
app = ClientApp()


@app.query()
def answer(message: Message, context: Context) -> Message:
    """Return the file in answer to the file that came."""
    sent = message.content.config_records[FILE]
    with Client(os.environ[WHERE], authkey=bytes.fromhex(os.environ[SECRET])) as answers:
        answers.send_bytes(str(sent["name"]).encode())
        answers.send_bytes(bytes(sent["content"]))  # type: ignore[arg-type]
        content = answers.recv_bytes()
    told: dict[str, str | bytes] = {"content": content}
    if not content:
        told = {REFUSED: "it could not answer; its SuperNode's own log says why"}
    return Message(RecordDict({FILE: ConfigRecord(told)}), reply_to=message)  # type: ignore[arg-type]


class Answers:
    """Answers messages' processes, one after the other, until its block ends.

    Parameters
    ----------
    command
        Writes the second file in answer to the first one.
    """

    def __init__(self, command: Callable[[Path, Path], None]) -> None:
        self._command, secret = command, secrets.token_bytes()
        self._listener = Listener(family="AF_UNIX", authkey=secret)
        self.variables = {WHERE: str(self._listener.address), SECRET: secret.hex()}

    def __enter__(self) -> "Answers":
        threading.Thread(target=self._answer, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _answer(self) -> None:
        while True:
            try:
                with self._listener.accept() as asked:
                    name = asked.recv_bytes().decode()
                    asked.send_bytes(self._file(name, asked.recv_bytes()))
            except (AuthenticationError, EOFError, ConnectionError):
                # whoever asked was killed, or was none of ours
                continue
            except OSError:
                return

    def _file(self, name: str, content: bytes) -> bytes:
        """Return the answer; nothing where there is none, since the reason may tell of the data."""
        with tempfile.TemporaryDirectory() as folder:
            # a name is not to lead to another folder
            asked = Path(folder) / Path(name).name
            asked.write_bytes(content)
            answered = Path(folder) / f"answer{asked.suffix}"
            try:
                self._command(asked, answered)
                return answered.read_bytes()
            except Exception:
                log.exception("no answer to %s", name)
                return b""
