"""What a node proves, round after round: challenges, answers, and what follows for its state."""
