"""Firmware's event log and what its events hold (TCG PFP, UEFI): bytes to values; nothing is proved here."""
