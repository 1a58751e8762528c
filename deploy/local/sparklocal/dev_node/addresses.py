"""Which loopback address a driver gets, and who listens there."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

LISTEN = "0A"


def network(seed: str) -> str:
    """The first three bytes, from the environment's random seed, so that two environments do not meet. Never 127.0.x."""
    return f"127.{16 + int(seed[:2], 16) % 232}.{int(seed[2:4], 16)}"


def next_address(seed: str, taken: set[str]) -> str:
    for host in range(2, 255):
        address = f"{network(seed)}.{host}"
        if address not in taken and not listening(address):
            return address
    raise RuntimeError(f"all addresses of {network(seed)}.0/24 are taken")


def listening(address: str) -> bool:
    return address in set(_listening_addresses())


def _listening_addresses() -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == LISTEN:
                yield _dotted(fields[1].partition(":")[0])


def _dotted(hexadecimal: str) -> str:
    """The kernel prints each 32-bit word in the machine's byte order; IPv4 is the last word, mapped or not."""
    word = bytes.fromhex(hexadecimal[-8:])
    return ".".join(str(byte) for byte in reversed(word))
