"""DER and X.509 as certificates of endorsement keys need it: bytes to values, no signatures, no trust."""
