"""What things are, typed, strict: recipe, target, calibration set, manifest; finding, reading, checking."""
