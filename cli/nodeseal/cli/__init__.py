"""The command ``nodeseal``: each module parses arguments, calls one function of the library, and prints.

Touches the terminal and files. The verifier is reached through :mod:`nodeseal.client`, keys through
:mod:`nodeseal.loader`.
"""
