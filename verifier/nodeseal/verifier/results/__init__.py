"""What relying parties and people take away about a node: tokens (EAR) and kept evidence."""
