"""What the harvest does with an equation that contains reports, by primitive."""
