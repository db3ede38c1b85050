"""A Slurm of one node on this machine, in a folder of its own.

    python tests/workflow/one_node_slurm.py FOLDER

starts it (as root; Debian's packages `slurm-wlm` and `munge`), and says what to set in a shell so
that `squeue`, `sbatch` and `matml run --workflow-profile slurm` use it. It runs until its processes
are ended: `pkill slurm; pkill munged`. It is for tests: one node, no accounting.
"""

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
MinJobAge=300
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
NodeName={host} CPUs={processors} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def what_is_missing() -> str:
    """Return why no Slurm can be started here; nothing where one can."""
    if missing := [name for name in DAEMONS if not shutil.which(name, path=_path())]:
        return f"needs {', '.join(missing)} (Debian: apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "needs root, as Slurm's daemons do"


class OneNode:
    """The daemons, and the environment in which everything asks them.

    Parameters
    ----------
    folder
        Where keys, logs, state and the configuration go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "slurm.conf"
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("", 0))
                ports.append(free.getsockname()[1])
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname(), folder=self.folder, ports=ports,
                processors=os.cpu_count(), memory=int(memory * 0.9),
            )
        )  # fmt: skip
        # Snakemake's plugin takes every variable of Slurm's away; where the configuration is not in
        # /etc/slurm, the one command that it then calls has to be told
        srun = self.folder / "bin/srun"
        real = shlex.quote(shutil.which("srun", path=_path()) or "srun")
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {real} "$@"\n')
        srun.chmod(0o755)
        self.environment = os.environ | {
            "SLURM_CONF": str(configuration), "PATH": f"{self.folder}/bin:{_path()}",
        }  # fmt: skip

    def start(self) -> None:
        """Start the daemons, and wait until the node takes jobs."""
        key = self.folder / "munge/key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log",
                 "seed-file": "seed"}  # fmt: skip
        self.call(
            "munged", "--force", *(f"--{a}={self.folder}/munge/{b}" for a, b in munge.items())
        )
        for daemon in DAEMONS[1:]:
            self.call(daemon, "-f", self.environment["SLURM_CONF"])
        deadline = time.monotonic() + 60
        while "idle" not in self.call("sinfo", "--noheader", "--format=%t", check=False):
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "slurmctld.log").read_text()[-2000:])
            time.sleep(0.2)
        # a machine whose node takes no job after all
        self.call("srun", "--immediate=30", "true")

    def call(self, *words: str, check: bool = True) -> str:
        """Return what a command said."""
        done = subprocess.run(
            words, env=self.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=60, check=check,
        )  # fmt: skip
        return done.stdout

    def stop(self) -> None:
        """End all jobs and daemons."""
        self.call("scancel", "--me", check=False)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            if (self.folder / name).exists():
                self.call("kill", (self.folder / name).read_text().strip(), check=False)


def _path() -> str:
    """Return the folders of programs, those of the system's daemons among them."""
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


if __name__ == "__main__":
    if reason := what_is_missing():
        sys.exit(reason)
    node = OneNode(Path(sys.argv[1]))
    node.start()
    print(f"export SLURM_CONF={node.environment['SLURM_CONF']}")
    print(f'export PATH={node.folder}/bin:"$PATH"')
