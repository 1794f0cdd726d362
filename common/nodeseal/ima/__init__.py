"""Linux IMA: measurement logs, templates and file signatures, bytes to values. Pure: nothing is proved.

``log`` reads the binary list and ``text`` the ASCII one; ``template`` reads an entry's data, ``signature`` a file's
signature, ``hash`` the kernel's table of hashes; ``diff`` compares two logs. :mod:`nodeseal.appraisal` replays logs
into quoted PCRs.
"""
