"""What this node can show: its logs, facts of the host, and quotes over both."""
