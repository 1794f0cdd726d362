"""Files for operating systems in ``deploy``: what they say holds."""

from __future__ import annotations

from support.data import ROOT

HOOKS = ("BPRM_CHECK", "MMAP_CHECK", "MODULE_CHECK", "FIRMWARE_CHECK", "POLICY_CHECK")
KEXEC = ("KEXEC_KERNEL_CHECK", "KEXEC_INITRAMFS_CHECK", "KEXEC_CMDLINE")


def test_the_ima_policy_measures_what_runs_and_says_why_of_each_line() -> None:
    lines = (ROOT / "deploy" / "ima-policy").read_text().splitlines()
    rules = [(number, line.split()) for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert [words[1] for _, words in rules] == [f"func={hook}" for hook in (*HOOKS, *KEXEC)]
    assert all(words[0] == "measure" for _, words in rules)
    assert all(lines[number - 1].startswith("# ") for number, _ in rules)
