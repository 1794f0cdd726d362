"""What files say: RDMA ports, namespaces, present connections, and the program nft."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.agent.egress import nft as nft_module
from nodeseal.agent.egress.host import count_namespaces, read_rdma
from nodeseal.agent.egress.nft import Nft
from nodeseal.agent.egress.plan import limited
from nodeseal.egress.listing import MAX_LISTING
from nodeseal.errors import Unavailable
from support.egress import document

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 01004D0A:C000 02004D0A:01BB 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 01004D0A:C001 08080808:01BB 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 0100007F:C002 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4 1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 000077FD000000000000000001000000:01BB 000077FD000000000000000002000000:C000 01
   1: 00000000000000000000000001000000:01BB B80D0120000000000000000002000000:C000 01
   2: 0000000000000000FFFF000001004D0A:01BB 0000000000000000FFFF000002004D0A:C000 01
"""


def test_rdma_ports_count_words_of_four_octets_and_unreadable_ones_are_left_out(tmp_path: Path) -> None:
    for port, text in (("1", "250\n"), ("2", "no number\n")):
        counters = tmp_path / "mlx5_0" / "ports" / port / "counters"
        counters.mkdir(parents=True)
        (counters / "port_xmit_data").write_text(text)
    assert read_rdma(tmp_path) == {"mlx5_0.1": 1000}
    assert read_rdma(tmp_path / "none") == {}


def test_namespaces_of_other_processes_are_counted_once(tmp_path: Path) -> None:
    for name, space in (("self", "net:[1]"), ("7", "net:[1]"), ("8", "net:[2]"), ("9", "net:[2]"), ("sys", "net:[3]")):
        (tmp_path / name / "ns").mkdir(parents=True)
        (tmp_path / name / "ns" / "net").symlink_to(space)
    (tmp_path / "10").mkdir()
    assert count_namespaces(tmp_path) == 1


def test_present_connections_outside_the_enclave_would_be_limited(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(TCP)
    (tmp_path / "tcp6").write_text(TCP6)
    assert list(map(str, limited(document(), tmp_path))) == [
        "tcp 2001:db8::2 port 49152",
        "tcp 8.8.8.8 port 443",
    ]


def _program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(nft_module, "_PLACES", (path,))


def test_an_nft_that_is_missing_or_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_module, "_PLACES", (tmp_path / "none",))
    with pytest.raises(Unavailable, match="no such program"):
        Nft()
    for said in ("nftables v1.0.5 (x)", "iptables v1.8"):
        _program(tmp_path, monkeypatch, f"echo '{said}'")
        with pytest.raises(Unavailable, match="too old"):
            Nft()


def test_what_nft_says_when_it_fails_is_told_and_its_output_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = 'if [ "$1" = --version ]; then echo "nftables v1.1.0 (x)"; exit; fi\n'
    _program(tmp_path, monkeypatch, f"{version}echo 'Error: no permission'; exit 1")
    with pytest.raises(Unavailable, match="Error: no permission"):
        Nft().replace(b"x" * 100_000)
    _program(tmp_path, monkeypatch, f"{version}exec yes 'table netdev nodeseal'")
    with pytest.raises(Unavailable, match=f"more than {MAX_LISTING}"):
        Nft().listing()


def test_nft_runs_without_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s")
    _program(tmp_path, monkeypatch, '[ -z "$SECRET" ] && echo "nftables v1.0.9 (x)"')
    Nft()


def test_a_kernel_without_our_table_lists_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'if [ "$1" = --version ]; then echo "nftables v1.0.9 (x)"; else echo "table netdev other"; fi'
    _program(tmp_path, monkeypatch, said)
    assert Nft().listing() is None
