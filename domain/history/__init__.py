"""What was true of a licence at a moment of its history, what changed, and why a program was answered as it was."""
