"""What a verifier proves of its folder before it says that it is ready; ``nodeseal-verifier check`` asks for the same.

``start`` has the one list of checks, and the claim that keeps a second verifier away. Nothing here changes anything,
but that a start notes which key-encryption key it has proved.
"""
