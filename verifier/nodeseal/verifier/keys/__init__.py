"""Where private model keys are: files under a key-encryption key, or a PKCS#11 token.

Only this room touches a private model key; what leaves it is a data key that was sealed to one. No database, no gRPC,
no memory of the fleet. ``token`` is the only module that speaks PKCS#11.
"""
