"""The lookbook command: its groups, options, and what it prints. Heavy imports are late; work is done below."""
