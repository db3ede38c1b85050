"""Sums under masks: whoever adds them up sees the total of all laboratories, and no single one's.

Each pair of laboratories has a secret, from which both draw the same random integers for a round;
one adds them to its sums and the other subtracts them (Bonawitz et al. 2017,
10.1145/3133956.3133982, without its shares of secrets: where a laboratory is missing its masks do
not cancel, and the others answer again without it). Numbers are fixed-point integers modulo a power
of two, which cancel exactly whatever the order in which they are added. Secrets are agreed on by
Diffie and Hellman's exchange in the 2048-bit group of RFC 3526: files of public keys may be seen.
"""

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256, shake_256
from pathlib import Path

import torch
from typing_extensions import TypedDict

from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, write_json
from matml.core.integrity.formats import FORMAT_KEY, Format
from matml.core.settings import check_shape
from matml.federated.files import SUMS, LaboratorySums, SharedPrior, StoredSums, merged
from matml.federated.participants import in_order

KEY = Format("federated key", 1, "make a pair of keys by `matml federated key`")
SECRET = Format("federated secret key", 1, "make a pair of keys by `matml federated key`")
MASKED = Format("federated masked sums", 1, SUMS.remedy)
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E34"
    "04DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6"
    "F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A6916"
    "3FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C"
    "32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA95"
    "6AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
"""Of the group 14; both it and half of it, rounded down, are prime."""
BYTES, FRACTION_BITS = 24, 80
MODULUS = 1 << 8 * BYTES


class StoredKey(TypedDict):
    """What a file of a key holds; the number in hexadecimal."""

    laboratory: str
    key: str


class StoredMasked(TypedDict):
    """What the file of masked sums holds; the numbers in hexadecimal."""

    study: str
    prior: str
    round: int
    roster: list[str]
    laboratories: list[str]
    numbers: list[str]
    fingerprints: dict[str, str]


def make_keys(laboratory: str, secret: Path, public: Path) -> None:
    """Write a laboratory's secret key, readable to its user alone, and the public one."""
    number = secrets.randbits(512)
    write_json(secret, {"laboratory": laboratory, "key": f"{number:x}"}, SECRET)
    secret.chmod(0o600)
    write_json(public, {"laboratory": laboratory, "key": f"{pow(2, number, PRIME):x}"}, KEY)


@dataclass(frozen=True)
class Keys:
    """A laboratory's name, and the secret that it shares with each other one."""

    laboratory: str
    shared: dict[str, bytes]

    @classmethod
    def load(cls, secret: Path, others: Sequence[Path]) -> "Keys":
        """Read a secret key, and the public keys of all others that take part.

        Raises
        ------
        MatmlError
            Where one is none, is the laboratory's own, or is there twice.
        """
        own, exponent = _key(secret, SECRET)
        shared: dict[str, bytes] = {}
        for path in others:
            name, number = _key(path, KEY)
            if name == own or name in shared:
                raise MatmlError(
                    f"{path}: a key of {name!r} is there already; give one of each other laboratory"
                )
            if not 1 < number < PRIME - 1:
                raise MatmlError(f"{path}: its number cannot be a public key; {KEY.remedy}")
            agreed = pow(number, exponent, PRIME).to_bytes(PRIME.bit_length() // 8, "big")
            shared[name] = sha256(agreed).digest()
        if len(shared) < 2:
            raise MatmlError(
                f"{secret}: with {len(shared)} other laboratories' keys the total would tell "
                "yours; masks need at least three laboratories"
            )
        return cls(own, shared)

    def mask(self, sums: LaboratorySums) -> "MaskedSums":
        """Return a laboratory's sums under its masks."""
        if sums.laboratories != [self.laboratory]:
            names = ", ".join(sums.laboratories)
            raise MatmlError(f"the secret key is of {self.laboratory!r}, the sums are of {names!r}")
        roster = sorted([self.laboratory, *self.shared])
        numbers = _integers(sums)
        # other masks in every round and for every roster: twice the same would tell a difference
        told = "\0".join([sums.study, sums.prior, *roster]).encode()
        for other, secret in self.shared.items():
            stream = shake_256(secret + told).digest(BYTES * len(numbers))
            sign = 1 if self.laboratory < other else -1
            for at in range(len(numbers)):
                drawn = int.from_bytes(stream[BYTES * at : BYTES * (at + 1)], "big")
                numbers[at] = (numbers[at] + sign * drawn) % MODULUS
        return MaskedSums(
            *(sums.study, sums.prior, sums.round, roster, sums.laboratories),
            *(numbers, sums.fingerprints),
        )


@dataclass(frozen=True)
class MaskedSums:
    """Sums of one laboratory or several, under masks.

    Attributes
    ----------
    study, prior, round, laboratories, fingerprints
        As of `LaboratorySums`.
    roster
        All whose masks cancel.
    numbers
        Counts and sums, as integers.
    """

    study: str
    prior: str
    round: int
    roster: list[str]
    laboratories: list[str]
    numbers: list[int]
    fingerprints: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the file that travels."""
        stored = vars(self) | {"numbers": [f"{number:x}" for number in self.numbers]}
        write_json(path, stored, MASKED)

    @classmethod
    def load(cls, path: Path, prior: SharedPrior) -> "MaskedSums":
        """Read masked sums under a prior.

        Raises
        ------
        MatmlError
            Where they are none, or of another prior or an earlier round.
        """
        stored = read_json(path, MASKED)
        check_shape(stored, StoredMasked, path, MASKED.remedy)
        prior.refuse_others(stored, path)
        with reading(path, MASKED.remedy):
            numbers = [int(text, 16) for text in stored["numbers"]]
        if len(numbers) != _count(len(prior.normal.mean)):
            raise MatmlError(f"{path}: {len(numbers)} numbers are not those of sums; {SUMS.remedy}")
        return cls(**stored | {"numbers": numbers})

    def total(self, prior: SharedPrior, path: Path) -> LaboratorySums:
        """Return the sums of all of the roster.

        Raises
        ------
        MatmlError
            Where a laboratory is missing, or the total cannot be sums.
        """
        if missing := sorted({*self.roster} - {*self.laboratories}):
            raise MatmlError(
                f"round {self.round}: no masked sums of {', '.join(missing)}, whose masks would "
                "cancel those of the others; wait for them, or let the others run `sums` again "
                "without their keys"
            )
        signed = [n - MODULUS if n >= MODULUS // 2 else n for n in self.numbers]
        counts, values = signed[:3], [n / 2**FRACTION_BITS for n in signed[3:]]
        if counts[0] != len(self.fingerprints):
            raise MatmlError(
                f"{path}: the masks of {', '.join(self.laboratories)} do not cancel; let all give "
                "the public keys that the others made last, and run `sums` again"
            )
        size = len(prior.normal.mean)
        outer = torch.zeros(size, size, dtype=torch.float64)
        upper = torch.triu_indices(size, size)
        outer[*upper] = torch.tensor(values[size:-2], dtype=torch.float64)
        stored: StoredSums = {
            "study": self.study,
            "prior": self.prior,
            "round": self.round,
            "laboratories": self.laboratories,
            "alloys": counts[0],
            "composition_groups": counts[1],
            "observations": counts[2],
            "offset": values[:size],
            "outer": (outer + outer.triu(1).mT).tolist(),
            "squared_noise": values[-2],
            "log_evidence": values[-1],
            "fingerprints": self.fingerprints,
        }
        return LaboratorySums.of(stored, prior, path)


def merged_masked(parts: Sequence[MaskedSums], names: Sequence[Path | str]) -> MaskedSums:
    """Return the masked sums of all parts; errors as of `in_order`, and for unlike rosters."""
    whole, *others = in_order(parts, names)
    for part in others:
        if part.roster != whole.roster:
            raise MatmlError(
                f"the masks of {', '.join(part.laboratories)} are for {', '.join(part.roster)}, "
                f"those of {', '.join(whole.laboratories)} for {', '.join(whole.roster)}; let all "
                "give the keys of the same laboratories"
            )
        added = zip(whole.numbers, part.numbers, strict=True)
        whole = replace(
            whole,
            laboratories=[*whole.laboratories, *part.laboratories],
            numbers=[(one + other) % MODULUS for one, other in added],
            fingerprints=whole.fingerprints | part.fingerprints,
        )
    return whole


def load_and_merge(paths: Sequence[Path], prior: SharedPrior) -> LaboratorySums | MaskedSums:
    """Return the sums of several files, of which all are masked or none is."""
    masked = [path for path in paths if _is_masked(path)]
    if not masked:
        return merged([LaboratorySums.load(path, prior) for path in paths], paths)
    if len(masked) < len(paths):
        plain = next(path for path in paths if path not in masked)
        raise MatmlError(f"{plain}: is not masked, {masked[0]} is; let all use masks, or none")
    return merged_masked([MaskedSums.load(path, prior) for path in paths], paths)


def _is_masked(path: Path) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return bool(json.loads(path.read_text()).get(FORMAT_KEY) == str(MASKED))
    # whatever it is, reading it as sums tells
    return False


def _count(size: int) -> int:
    """Return how many numbers there are of sums over so many parameters."""
    return 5 + size + size * (size + 1) // 2


def _integers(sums: LaboratorySums) -> list[int]:
    """Return counts and sums as integers; the symmetric outer products once."""
    own = sums.sums
    upper = torch.triu_indices(len(own.offset), len(own.offset))
    values = [*own.offset.tolist(), *own.outer[*upper].tolist()]
    values += [own.squared_noise, own.log_evidence]
    counts = [own.tasks, sums.composition_groups, own.observations]
    return counts + [round(Fraction(value) * 2**FRACTION_BITS) % MODULUS for value in values]


def _key(path: Path, form: Format) -> tuple[str, int]:
    stored = read_json(path, form)
    check_shape(stored, StoredKey, path, form.remedy)
    with reading(path, form.remedy):
        return stored["laboratory"], int(stored["key"], 16)
