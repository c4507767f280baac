"""What is played: plan, harmony, melody, accompaniment, drums, as a score."""
