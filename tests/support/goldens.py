"""A golden that uses every key, as YAML and as lines that tests change one by one."""

from __future__ import annotations

import hashlib

A, B, C = (bytes([n]) * 32 for n in (0xA1, 0xB2, 0xC3))
MEASURED = hashlib.sha256(bytes(32) + A).digest()
"""PCR 4 after the one event of the reference."""
PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
"""
"""The generator of P-256 (SEC 2, §2.4.2): nobody knows what it signs with but 1."""


def _indented(text: str, by: int) -> str:
    return "".join(" " * by + line + "\n" for line in text.splitlines())


FULL = f"""\
format: nodeseal/golden/1
name: rack-a
pcrs:
  sha256:
    "4": ["{MEASURED.hex()}"]
    "7": ["{A.hex()}", "{B.hex()}"]
boot:
  secure_boot: true
  dma_protection: true
  signers:
    - {{sha256: "{A.hex()}", name: "a maker of systems"}}
  images:
    - {{name: "shimx64.efi", digests: ["{A.hex()}"]}}
  drivers:
    - {{name: "network card", digests: ["{B.hex()}"]}}
  dbx: ["{C.hex()}"]
  command_lines: ["root=UUID=* ro quiet"]
  sections: {{".linux": ["{A.hex()}"]}}
  files:
    - {{name: "/grub/grub.cfg", digests: ["{A.hex()}"]}}
  gpt: ["{A.hex()}"]
  loader_conf: ["{A.hex()}"]
  addons:
    - {{name: "token", digests: ["{A.hex()}"]}}
  phases: ["enter-initrd", "start-the-world"]
runtime:
  files:
    /usr/bin/bash: ["sha256:{A.hex()}"]
    /usr/bin/python3:
      - {{digest: "sha256:{A.hex()}", until: "2026-03-01T00:00:00Z"}}
      - {{digest: "sha256:{B.hex()}", from: "2026-02-01T01:00:00+01:00"}}
  keys:
    - name: builders
      from: "2026-01-01T00:00:00Z"
      key: |
{_indented(PUBLIC_KEY, 8)}\
  excludes: ["/var/log/"]
  violations: ["/var/log/journal"]
  buffers: {{kexec-cmdline: ["sha512:{(A + A).hex()}"]}}
platform:
  manufacturers: ["IFX"]
  firmware: "7.2.3.1"
  ek_algorithms: ["rsa2048"]
egress:
  enclave: ["10.0.0.0/8", "fd00::/8"]
  uplinks: ["bond0", "default-route", "eth1.100"]
  counted: ["ib0"]
  normal: {{rate: 2000000, burst: 131072, volume: 8000000000}}
  tight: {{rate: 100000, burst: 131072, volume: 1000000000}}
valid:
  from: "2026-01-01T00:00:00Z"
  until: "2026-12-31T23:59:59Z"
nodes: {{rack: "a"}}
reference:
  - {{pcr: 4, type: "EV_EFI_BOOT_SERVICES_APPLICATION", sha256: "{A.hex()}", what: "shimx64.efi"}}
  - {{pcr: 9, type: "0x0000040e", sha256: "{B.hex()}"}}
"""
