"""What the parity checks share: running the command (command), models (models), the peers' training step (peers)."""
