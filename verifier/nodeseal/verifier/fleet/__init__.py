"""All nodes while the verifier runs, and the one way to change what is thought of one."""
