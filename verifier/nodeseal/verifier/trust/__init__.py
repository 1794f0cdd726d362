"""What people decide to trust: goldens, models, model keys and their grants."""
