"""Rounds by Flower: a real SuperLink and SuperNodes, and what a round does with any answer."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("flwr")

from click.testing import CliRunner
from flwr.app import Error, Message
from flwr.cli.build import build_fab_from_files
from flwr.supercore.task_identity import TaskIdentity
from tomli_w import dumps

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import write_table
from matml.federated.files import SharedPrior, merged
from matml.federated.flower import answers, rounds
from matml.federated.flower.guards import APP, OwnMachineOnly, check_app
from matml.federated.flower.keys import laboratories_of, make_certificates, make_key
from matml.federated.flower.link import address
from matml.federated.flower.processes import free_port, is_ready
from matml.federated.kinetics import step
from matml.federated.masks import make_keys
from matml.federated.network_files import NetworkRound, save_answer
from matml.federated.networks import Rounds
from matml.structures.settings import STRUCTURES

NAMES = ("north", "east", "west")
# raised inside flwr
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


@pytest.fixture
def keys(tmp_path):
    """Certificates, and keys of three laboratories."""
    make_certificates(tmp_path / "certificates", ["127.0.0.1"])
    for name in NAMES:
        make_key(name, tmp_path / f"{name}.pem", tmp_path / f"{name}.pub")
    return tmp_path


@pytest.fixture
def late(laboratories, start, learned, tmp_path):
    """A round's file, two before the last."""
    prior = start
    while prior.round < learned.round - 2:
        prior = step(prior, merged([each.sums(prior) for each in laboratories], NAMES))
    prior.save(tmp_path / f"prior-{prior.round}.json")
    return tmp_path / f"prior-{prior.round}.json"


def sums(parts, name):
    data = f"--data {parts}/{name}.csv --alloys {parts}/{name}-alloys.csv --laboratory {name}"
    return ["sums", *data.split()]


# the real thing, by the commands of the how-to


def shown():
    """Return the commands of its section, by their names."""
    page = (Path(__file__).parents[2] / "docs/pages/how-to/learn-together.md").read_text()
    section = page.partition("\n## Over a network\n")[2].replace("\\\n", " ")
    lines = re.findall(r"^ {8}matml federated flower (.*)$", section, flags=re.M)
    return {line.split()[0]: line for line in lines}


class Programs(ExitStack):
    """Commands of matml as processes, each in its folder; at the end none is left."""

    def start(self, line, folder, log="log"):
        """Begin a command that writes what it says into a file."""
        words = [sys.executable, "-c", "from matml.cli.main import main; main()"]
        with (folder / log).open("wb") as said:
            process = subprocess.Popen(
                [*words, "federated", "flower", *line.split()],
                cwd=folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.callback(self._end, process)
        return process

    def _end(self, process):
        process.terminate()
        process.wait(60)


def wait_for(path, said, seconds=240):
    """Wait until a log says something."""
    end = time.monotonic() + seconds
    while said not in path.read_text():
        assert time.monotonic() < end, path.read_text()
        time.sleep(0.2)


def left(folder):
    """Return the processes that have a folder in their command line or environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
            if str(folder).encode() in told and place.name != str(os.getpid()):
                found.append(told[:200])
    return found


def test_the_how_to_as_it_stands_and_a_laboratory_killed_in_a_round(
    parts, late, learned, tmp_path, monkeypatch
):
    """TLS and keys; the laboratory is named, comes back, and the bits are those of files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    port, server = str(free_port()), tmp_path / "coordinator"
    lines = {name: line.replace("8000", port) for name, line in shown().items()}
    folders = {name: tmp_path / name for name in (*NAMES, "south")}
    with Programs() as programs:
        server.mkdir()
        (server / "prior-0.json").write_bytes(late.read_bytes())
        run(lines["certificates"], server)
        for name, folder in folders.items():
            folder.mkdir()
            data = name if name in NAMES else "north"
            for file, own in (("points", data), ("alloys", f"{data}-alloys")):
                (folder / f"{file}.csv").write_bytes((parts / f"{own}.csv").read_bytes())
            run(lines["key"].replace("north", name), folder)
            (folder / "ca.crt").write_bytes((server / "certificates/ca.crt").read_bytes())
            (server / f"{name}.pub").write_bytes((folder / f"{name}.pub").read_bytes())
        programs.start(lines["superlink"], server)
        _, _, west, _ = (
            programs.start(lines["supernode"].replace("north", name), folder)
            for name, folder in folders.items()
        )
        wait_for(folders["west"] / "log", "SuperNode ID")
        # a message comes and finds nobody who answers
        west.send_signal(signal.SIGSTOP)
        learn = programs.start(lines["learn"], server, "learn")
        wait_for(folders["west"] / "log", "Received successfully")
        west.send_signal(signal.SIGKILL)
        west.wait()
        wait_for(server / "learn", "prior-0.json: west is gone; asked again when it is back")
        programs.start(lines["supernode"].replace("north", "west"), folders["west"], "again")
        assert learn.wait(240) == 0, (server / "learn").read_text()
        wait_for(server / "learn", "rounds/prior-2.json: of ")
        learned.save(tmp_path / "files.json")
        assert (server / "rounds/prior-2.json").read_bytes() == (
            tmp_path / "files.json"
        ).read_bytes()
        # whose key nobody let in
        wait_for(folders["south"] / "log", "Failed to activate SuperNode")
        make_certificates(tmp_path / "other", ["127.0.0.1"])
        with pytest.raises(MatmlError, match=r"other/ca\.crt does not vouch for its certificate"):
            is_ready("127.0.0.1", int(port), tmp_path / "other/ca.crt")
    end = time.monotonic() + 30
    while left(tmp_path):
        assert time.monotonic() < end, left(tmp_path)
        time.sleep(0.2)


def run(line, folder):
    """Run a command in a folder."""
    with chdir(folder):
        done = CliRunner().invoke(cli, ["federated", "flower", *line.split()])
    assert done.exit_code == 0, done.output


# a round, without processes


@dataclass
class Grid:
    """A SuperLink of laboratories that answer in this process, or do something else."""

    commands: dict
    sent: list = field(default_factory=list)
    waiting: dict = field(default_factory=dict)
    activations: dict = field(default_factory=dict)

    def get_nodes(self):
        return [
            SimpleNamespace(name=n, node_id=i, last_activated_at=str(self.activations.get(n, 0)))
            for i, n in enumerate(self.commands, 1)
            if self.commands[n] != "gone"
        ]

    def push_messages(self, messages):
        (message,) = messages
        name = list(self.commands)[message.metadata.dst_node_id - 1]
        self.sent.append(name)
        if self.commands[name] == "too large":
            return []
        number = f"{name} {len(self.sent)}"
        message.metadata.__dict__["_message_id"] = number
        self.waiting[number] = (self.commands[name], message)
        if self.commands[name] == "killed once":
            self.commands[name], self.activations[name] = sums(self.parts, name), 1
        return [number]

    def pull_messages(self, numbers):
        for number in [n for n in numbers if n in self.waiting]:
            command, message = self.waiting.pop(number)
            if command == "error":
                yield Message(Error(code=2, reason="its process ended"), reply_to=message)
            elif isinstance(command, list):
                with answers.Answers(lambda asked, out, c=command: answer(c, asked, out)) as own:
                    os.environ.update(own.variables)
                    yield answers.answer(message, None)


def answer(command, asked, out):
    line = ["federated", *command[0].split(), str(asked), *command[1:], "--out", str(out)]
    cli.main(line, standalone_mode=False)


@pytest.fixture
def grid(parts, monkeypatch):
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    for name in (answers.WHERE, answers.SECRET):
        monkeypatch.setenv(name, "")
    made = Grid({name: sums(parts, name) for name in NAMES})
    made.parts = parts
    return made


def learn(grid, begun, out, go_on=False, patience_s=0.2):
    return rounds.learn(grid, begun, out, NAMES, patience_s=patience_s, go_on=go_on)


def test_rounds_end_where_files_by_hand_end(grid, late, learned, tmp_path):
    grid.commands["west"] = "killed once"
    last = SharedPrior.load(learn(grid, late, tmp_path / "rounds", patience_s=60))
    assert last.key == learned.key
    assert grid.sent.count("west") == grid.sent.count("north") + 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("gone", "west: no answer in 0.2 s"),
        ("silent", "west: no answer in 0.2 s"),
        ("too large", "west: no answer in 0.2 s"),
        ("error", "west: its process ended"),
        (["sums", "--data", "none.csv", "--laboratory", "west"], "west: it could not answer; its"),
    ],
)
def test_who_does_not_answer_is_named(grid, late, laboratories, tmp_path, command, said):
    """Or the round goes on without: to the bit the round of the others by files."""
    grid.commands["west"] = command
    with pytest.raises(MatmlError, match=rf"{late.name}: {said}") as refused:
        learn(grid, late, tmp_path / "rounds")
    assert "none.csv" not in str(refused.value)
    prior = SharedPrior.load(learn(grid, late, tmp_path / "rounds", go_on=True))
    expected = SharedPrior.load(late)
    others = laboratories[:2]
    while not expected.converged:
        expected = step(expected, merged([each.sums(expected) for each in others], NAMES[:2]))
    assert (prior.laboratories, prior.key) == (["east", "north"], expected.key)


def test_who_is_gone_after_an_error_is_named_at_once(grid, parts, late, tmp_path, monkeypatch):
    """The process that was to answer ends first, then its SuperNode; then both are back."""
    said, plain = [], grid.get_nodes
    monkeypatch.setattr(rounds, "log", lambda _, text, *words: said.append(text % words))
    states = iter(["error", "gone"])

    def nodes():
        grid.commands["west"] = next(states, sums(parts, "west"))
        grid.activations["west"] = grid.commands["west"] != "error"
        return plain()

    monkeypatch.setattr(grid, "get_nodes", nodes)
    learn(grid, late, tmp_path / "rounds", patience_s=60)
    assert said[0] == f"matml: {late.name}: west is gone; asked again when it is back"
    assert said[1].endswith("of east, north, west")


def test_an_answer_under_the_key_of_another_is_refused(grid, parts, late, tmp_path):
    grid.commands["west"] = sums(parts, "east")
    with pytest.raises(MatmlError, match=r"west\.json: is of east, but came under the key of west"):
        learn(grid, late, tmp_path / "rounds")


def test_masks_go_over_it_unchanged(grid, parts, late, learned, tmp_path):
    for name in NAMES:
        make_keys(name, tmp_path / f"{name}.secret", tmp_path / f"{name}.public")
    for name in NAMES:
        others = [f"--with={tmp_path}/{other}.public" for other in NAMES if other != name]
        grid.commands[name] += [f"--secret={tmp_path}/{name}.secret", *others]
    last = SharedPrior.load(learn(grid, late, tmp_path / "rounds", patience_s=60))
    assert last.normal.noise == pytest.approx(learned.normal.noise, rel=1e-10)
    grid.commands["west"] = "gone"
    with pytest.raises(MatmlError, match="no masked sums of west"):
        learn(grid, late, tmp_path / "other", go_on=True)


def test_rounds_of_a_network_end_where_its_files_do(grid, crystals, tmp_path):
    settings = Rounds(rounds=2, local_steps=1, batch_size=4)
    begun = NetworkRound.begin(
        "s", crystals, "formation_energy_eV_per_atom", -1, 1, settings, {"width": 8, "layers": 1}
    )
    begun.save(tmp_path / "round-0.safetensors")
    for number, name in enumerate(NAMES):
        part, folder = crystals.subset(np.arange(number, 60, 3)), tmp_path / name
        write_table(folder / "structures/structures.parquet", part.table, STRUCTURES)
        part.graphs.save(folder / "graphs")
        given = f"--structures {folder}/structures --graphs {folder}/graphs --laboratory {name}"
        grid.commands[name] = ["crystals answer", *given.split()]
    last = learn(grid, tmp_path / "round-0.safetensors", tmp_path / "rounds", patience_s=60)
    for _ in range(2):
        files = []
        for number, name in enumerate(NAMES):
            part = crystals.subset(np.arange(number, 60, 3))
            files.append(tmp_path / f"{name}.safetensors")
            save_answer(files[-1], begun.answer(part, name, name), name, begun)
        begun = begun.step(files)
    assert NetworkRound.load(last).key == begun.key
    assert last.name == "round-2.safetensors"


# what each party refuses


def test_a_supernode_runs_no_other_app():
    def bundle(app, **files):
        content = {"pyproject.toml": dumps(app).encode()} | files
        return build_fab_from_files(content)[0]

    check_app(bundle(APP))
    other = APP | {"project": APP["project"] | {"version": "0.0"}}
    with pytest.raises(MatmlError, match=r"sent the app matml-federated 0\.0, not that of matml"):
        check_app(bundle(other))
    with pytest.raises(MatmlError, match="which alone runs here"):
        check_app(bundle(APP, **{"more.py": b"import os"}))


@pytest.mark.parametrize(
    ("path", "host", "passed"),
    [
        ("/v1/fleet/pull-messages", "10.0.0.7", True),
        ("/v1/control/start-run", "127.0.0.1", True),
        ("/v1/control/start-run", "10.0.0.7", False),
        ("/v1/runtime/push-messages", "10.0.0.7", False),
        ("/v1/control/start-run", "::1", True),
        ("/v1/control/start-run", "10.0.0.1", True),
        ("/docs", None, False),
    ],
)
def test_runs_begin_on_the_superlinks_own_machine_alone(path, host, passed):
    said = []

    async def app(scope, receive, send):
        said.append("passed")

    async def send(message):
        said.append(message.get("status"))

    scope = {"type": "http", "path": path, "client": host and (host, 1), "server": ("10.0.0.1", 2)}
    running = OwnMachineOnly(app)(scope, None, send)
    with pytest.raises(StopIteration):
        running.send(None)
    assert said[0] == ("passed" if passed else 403)


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "127.0.0.1", "x:", "x:99999"])
def test_addresses_are_host_and_port(text):
    with pytest.raises(MatmlError, match="give host:port without http://"):
        address(text)


def test_keys_and_commands_that_cannot_be_are_refused(keys, late, tmp_path):
    for files, said in (
        (["north.pub", "north.pub"], "'north' is there already"),
        (["north.pem"], "is not the public key of a laboratory"),
    ):
        with pytest.raises(MatmlError, match=said):
            laboratories_of([tmp_path / name for name in files])
    (tmp_path / "twin.pub").write_text((tmp_path / "north.pub").read_text().replace("north", "so"))
    with pytest.raises(MatmlError, match="'north' is there already"):
        laboratories_of([tmp_path / "north.pub", tmp_path / "twin.pub"])
    with pytest.raises(MatmlError, match="give its name, in one word"):
        make_key("two words", tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "north.pem").stat().st_mode & 0o077 == 0
    here = f"--superlink 127.0.0.1:9 --authority {tmp_path}/certificates/ca.crt"
    for line, said in (
        (f"supernode {here} --key {keys}/north.pem -- step a", "give `sums …` or"),
        (f"learn {tmp_path}/north.pub {here} --laboratory a --out o", "ends with its round"),
        (f"superlink {tmp_path}/north.pub --certificates {tmp_path}", r"ca\.crt: is not there"),
        (f"learn {late} {here} --laboratory a --out {tmp_path}/o", "no SuperLink of these"),
    ):
        with pytest.raises(MatmlError, match=said):
            CliRunner().invoke(cli, ["federated", "flower", *line.split()], catch_exceptions=False)
    line = f"supernode {here} --key {keys}/north.pem -- sums --laboratory north"
    done = CliRunner().invoke(cli, ["federated", "flower", *line.split()])
    assert "Missing option '--data'" in done.output
